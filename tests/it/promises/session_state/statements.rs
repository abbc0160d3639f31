//! Statements as services send them, and as no service should: lists with one statement per line.

/// The statements of a list. `⏎` is a line break within a statement.
pub(super) fn statements(list: &str) -> impl Iterator<Item = String> {
    let lines = list.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.replace('⏎', "\n"))
}

/// What services send all day.
pub(super) const EVERYDAY: &str = r#"
SELECT 1
SELECT 1 AS alive
SELECT NOW()
SELECT VERSION()
SELECT DATABASE(), USER(), CURRENT_USER(), CONNECTION_ID()
SELECT @@version, @@session.sql_mode, @@global.max_connections
SELECT @@sql_mode = 'ANSI', @@`sql_mode`
SELECT LAST_INSERT_ID()
SELECT ROW_COUNT(), FOUND_ROWS()
SELECT * FROM item
SELECT id, name FROM item WHERE id = 1
SELECT `id`, `item`.`name` FROM `item` WHERE `id` = 1
SELECT i.id, i.name FROM item AS i WHERE i.id = 1
SELECT {db}.item.id FROM {db}.item
SELECT DISTINCT parent FROM item
SELECT COUNT(*) FROM item
SELECT COUNT(DISTINCT parent), SUM(price), AVG(price), MIN(price), MAX(price) FROM item
SELECT parent, COUNT(*) AS n FROM item GROUP BY parent HAVING COUNT(*) > 0 ORDER BY n DESC LIMIT 10
SELECT * FROM item ORDER BY added DESC LIMIT 10 OFFSET 5
SELECT * FROM item ORDER BY id LIMIT 5, 10
SELECT * FROM item WHERE id IN (1, 2, 3)
SELECT * FROM item WHERE id IN(1,2,3) AND name NOT IN ('a', 'b')
SELECT * FROM item WHERE (id, parent) IN ((1, 2), (3, 4))
SELECT * FROM item WHERE name LIKE 'o%' OR name LIKE '%\_%'
SELECT * FROM item WHERE name = 'it''s'
SELECT * FROM item WHERE name = 'O\\'
SELECT * FROM item WHERE name = "double"
SELECT * FROM item WHERE name = 'café' OR name = '中文'
SELECT * FROM item WHERE name = 'semi;colon -- # /* not a comment */ @x := 1'
SELECT * FROM item WHERE price BETWEEN 1 AND 2.5 AND NOT (parent IS NULL)
SELECT * FROM item WHERE parent IS NULL AND (name = 'a' OR (name = 'b' AND price > 1e3))
SELECT * FROM item WHERE parent <=> NULL XOR price <> 1
SELECT * FROM item WHERE added > NOW() - INTERVAL 1 DAY
SELECT * FROM item WHERE added >= DATE_SUB(CURDATE(), INTERVAL 7 DAY)
SELECT * FROM item WHERE DATE(added) = '2024-01-01' AND YEAR(added) = 2024
SELECT * FROM item WHERE name REGEXP '^o' OR name RLIKE ('e$')
SELECT * FROM item WHERE id = (SELECT MAX(id) FROM item)
SELECT * FROM item WHERE EXISTS (SELECT 1 FROM orders WHERE item_id = item.id)
SELECT * FROM item WHERE NOT EXISTS (SELECT 1 FROM orders WHERE item_id = item.id)
SELECT * FROM item WHERE id = ANY (SELECT item_id FROM orders) OR id > ALL (SELECT 1)
SELECT i.name, o.quantity FROM item i JOIN orders o ON o.item_id = i.id
SELECT i.name, o.quantity FROM item i LEFT JOIN orders o ON (o.item_id = i.id AND o.quantity > 1)
SELECT a.name FROM item a INNER JOIN item b USING (id)
SELECT a.name FROM item a, item b WHERE a.id = b.parent
SELECT a.name FROM item a CROSS JOIN (orders o, item c) STRAIGHT_JOIN (item d)
SELECT * FROM item NATURAL JOIN named
SELECT * FROM named WHERE id = 1
SELECT * FROM item USE INDEX (by_parent) WHERE parent = 1
SELECT * FROM item FORCE INDEX FOR JOIN (by_parent) WHERE parent = 1
SELECT * FROM (SELECT id FROM item WHERE id > 0) AS sub WHERE sub.id < 10
SELECT CASE WHEN price > 1 THEN 'dear' ELSE 'cheap' END FROM item
SELECT CASE (parent) WHEN (1) THEN (2) ELSE (3) END FROM item
SELECT IF(price > 1, 'a', 'b'), IFNULL(parent, 0), NULLIF(parent, 1) FROM item
SELECT COALESCE(parent, id), ISNULL(parent) FROM item
SELECT CONCAT(name, '-', id), CONCAT_WS(',', name, note), LENGTH(name) FROM item
SELECT UPPER(name), LOWER(name), LEFT(name, 2), RIGHT(name, 2), SUBSTRING(name, 1, 2) FROM item
SELECT SUBSTRING(name FROM 2 FOR 1), TRIM(LEADING 'o' FROM name), POSITION('n' IN name) FROM item
SELECT REPLACE(name, 'o', '0'), INSERT(name, 1, 1, 'x'), REPEAT(name, 2) FROM item
SELECT LPAD(id, 5, '0'), FORMAT(price, 2), ROUND(price, 1), FLOOR(price), MOD(id, 2) FROM item
SELECT id + 1, id - 1, id * 2, id / 2, id DIV 2, id % 2, -id, 5--1 FROM item
SELECT id & 1, id | 1, id ^ 1, ~id, id << 1, id >> 1, !id FROM item
SELECT CAST(price AS SIGNED), CAST(id AS CHAR(10)), CAST('1.5' AS DECIMAL(10,2)) FROM item
SELECT CONVERT('a' USING utf8mb4), CONVERT(id, CHAR(5)), BINARY 'a'
SELECT DATE_FORMAT(added, '%Y-%m-%d %H:%i'), EXTRACT(YEAR FROM added) FROM item
SELECT TIMESTAMPDIFF(DAY, added, NOW()), DATEDIFF(NOW(), added), UNIX_TIMESTAMP(added) FROM item
SELECT CURRENT_TIMESTAMP, CURRENT_TIMESTAMP(6), CURRENT_DATE, UTC_TIMESTAMP(), SYSDATE()
SELECT GROUP_CONCAT(name ORDER BY id SEPARATOR ', ') FROM item
SELECT GROUP_CONCAT(DISTINCT parent) FROM item GROUP BY price WITH ROLLUP
SELECT JSON_EXTRACT(data, '$.a'), JSON_UNQUOTE(JSON_EXTRACT(data, '$.a[0]')) FROM orders
SELECT JSON_OBJECT('id', id, 'name', name), JSON_ARRAY(1, 'two') FROM item
SELECT JSON_ARRAYAGG(id), JSON_OBJECTAGG(id, parent) FROM item
SELECT * FROM orders WHERE JSON_CONTAINS(data, '1', '$.a')
SELECT ROW_NUMBER() OVER (PARTITION BY parent ORDER BY id) FROM item
SELECT RANK() OVER w, LAG(id) OVER w FROM item WINDOW w AS (ORDER BY id)
SELECT SUM(price) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM item
SELECT HEX(name), SHA2(name, 256), CRC32(name), TO_BASE64(name) FROM item
SELECT UUID(), RAND(), RAND(5), UUID_SHORT()
SELECT INET_ATON('127.0.0.1'), INET6_NTOA(INET6_ATON('::1'))
SELECT ST_AsText(ST_GeomFromText('POINT(1 2)')), ST_X(ST_GeomFromText('POINT(1 2)'))
SELECT GREATEST(1, 2), LEAST(1, 2), FIELD(1, 2, 1), ELT(1, 'a'), FIND_IN_SET('a', 'a,b')
SELECT SLEEP(0), BENCHMARK(1, 1 + 1)
SELECT IS_FREE_LOCK('x'), IS_USED_LOCK('x')
SELECT x'4D', X'4D', 0x4D, b'01', 0b01, N'text', _utf8mb4'text', _latin1 'text'
SELECT 'a' 'b', 'tab\t', 'nul\0', 'percent\%'
SELECT DATE '2024-01-01', TIMESTAMP '2024-01-01 00:00:00', {d '2024-01-01'}
SELECT TRUE, FALSE, NULL, NOT TRUE
SELECT 1; SELECT 2; SELECT 3
SELECT 1 -- one
SELECT 1 # one
SELECT /* one */ 1
/* route=/items/1 */ SELECT 1
-- first⏎SELECT 1
SELECT /*+ MAX_EXECUTION_TIME(1000) */ * FROM item
SELECT SQL_NO_CACHE * FROM item
SELECT HIGH_PRIORITY SQL_BUFFER_RESULT * FROM item
SELECT * FROM item WHERE id = 1 FOR UPDATE
SELECT * FROM item WHERE id = 1 LOCK IN SHARE MODE
SELECT * FROM item WHERE MATCH (note) AGAINST ('word')
SELECT * FROM item WHERE MATCH(note) AGAINST('+word -other' IN BOOLEAN MODE)
(SELECT id FROM item) UNION (SELECT id FROM orders)
SELECT id FROM item UNION ALL SELECT id FROM orders ORDER BY id LIMIT 1
SELECT id FROM item UNION ALL (SELECT id FROM orders LIMIT 1)
WITH recent AS (SELECT * FROM item) SELECT * FROM recent
WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT * FROM b
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n
WITH a AS (SELECT 1 AS z), b (x, `y`) AS (SELECT 2, 3) SELECT * FROM a, b
INSERT INTO item (name) VALUES ('three')
INSERT INTO item (name, price) VALUES ('four', 4.00), ('five', 5.00)
INSERT INTO `item` (`name`) VALUES ('six')
INSERT INTO {db}.item(name) VALUES('seven')
INSERT INTO item VALUES (DEFAULT, 'eight', 8, NULL, NULL, NOW())
INSERT INTO item () VALUES ()
INSERT INTO item SET name = 'nine', price = 9
INSERT item (name) VALUE ('ten')
INSERT IGNORE INTO item (name) VALUES ('one')
INSERT LOW_PRIORITY INTO item (name) VALUES (CONCAT('e', 'leven'))
INSERT INTO item (name) SELECT CONCAT('copy of ', name) FROM item WHERE id = 1
INSERT INTO orders (item_id) (SELECT id FROM item LIMIT 1)
INSERT INTO item (id, name) VALUES (1, 'uno') ON DUPLICATE KEY UPDATE name = VALUES(name)
INSERT INTO item (name) VALUES ('twelve') RETURNING id
REPLACE INTO emptied (a, b) VALUES (1, 2)
REPLACE emptied SET a = 1
UPDATE item SET price = price * 1.1 WHERE id = 1
UPDATE item SET name = 'b', price = 2, added = NOW() WHERE id = 2 LIMIT 1
UPDATE item i JOIN orders o ON o.item_id = i.id SET i.price = o.quantity WHERE o.id = 1
UPDATE item SET price = CASE id WHEN 1 THEN 10 WHEN 2 THEN 20 END WHERE id IN (1, 2)
UPDATE orders SET data = JSON_SET(data, '$.b', 1) WHERE id = 1
DELETE FROM item WHERE id = 1000
DELETE FROM item WHERE name = 'nobody' ORDER BY id LIMIT 5
DELETE o FROM orders o JOIN item i ON i.id = o.item_id WHERE i.id = 1000
DELETE FROM orders USING orders INNER JOIN item USING (id) WHERE orders.id = 1000
TRUNCATE TABLE emptied
TRUNCATE emptied
DO 1
DO SLEEP(0), 1
DO (SELECT 1)
VALUES (1, 2), (3, 4)
TABLE item
SHOW TABLES
SHOW TABLES LIKE 'i%'
SHOW FULL COLUMNS FROM item
SHOW DATABASES
SHOW CREATE TABLE item
SHOW INDEX FROM item
SHOW WARNINGS
SHOW ERRORS
SHOW COUNT(*) WARNINGS
SHOW STATUS LIKE 'Threads%'
SHOW VARIABLES LIKE 'max%'
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('port', 'socket')
SHOW PROCESSLIST
SHOW FULL PROCESSLIST
SHOW ENGINES
SHOW TABLE STATUS
SHOW TRIGGERS
EXPLAIN SELECT * FROM item WHERE id = 1
EXPLAIN FORMAT=JSON SELECT * FROM item WHERE id = 1
EXPLAIN FORMAT=JSON (SELECT id FROM item)
EXPLAIN (SELECT id FROM item) UNION (SELECT id FROM orders)
EXPLAIN UPDATE item SET price = 1
EXPLAIN INSERT INTO item (name) VALUES ('x')
DESCRIBE item
DESC item name
ANALYZE TABLE item
SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
SELECT * FROM information_schema.COLUMNS WHERE TABLE_NAME = 'item'
"#;

/// Statements that may be called neutral or changing, as long as none called neutral changes
/// anything.
pub(super) const CAREFUL: &str = r#"
;
;;
-- nothing
SELECT COUNT (*) FROM item
SELECT COUNT (1)
SELECT TRIM (1)
SELECT `count`(1)
SELECT CONCAT (1)
SELECT `concat`(1)
SELECT "concat"(1)
SELECT {db}.concat(1)
SELECT LAST_INSERT_ID(7)
UPDATE item SET id = LAST_INSERT_ID(id) WHERE id = 1
INSERT INTO item (id) VALUES (1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)
SELECT SQL_CALC_FOUND_ROWS * FROM item LIMIT 1
SELECT @a
SELECT @a, @`b`, @'c', @"d"
INSERT INTO item (name) VALUES (@a)
SELECT RELEASE_LOCK('nobody''s')
SELECT ANY_VALUE(name) FROM item
SELECT MD5('x'), SHA1('x')
SELECT NVL(NULL, 1)
SELECT nosuch(1)
SELECT nosuch.nosuch(1)
SELECT * FROM nosuch
SELECT FROM WHERE
SELEC 1
SELECT 'unterminated
SELECT "unterminated
SELECT `unterminated
SELECT 1 /* unterminated
SELECT 1 /*/ , @a := 1 /**/
SELECT 'it\'s'
SELECT 'a\', @a := 1 -- '
SELECT 'a\\', 1 -- '
SELECT "a\", @a := 1 -- "
SELECT '\', GET_LOCK(''{db}'', 0) -- '
SELECT 1 --@a := 1
SELECT 1 --1
SELECT 1 AS `@a := 1`
SELECT 1 AS 'x', 2 AS "y"
SELECT '/*', 1, '*/'
SELECT '-- ', 1
SELECT /*+ SET_VAR(sort_buffer_size = 262144) */ 1
SELECT /*+ NO_INDEX_MERGE(item) */ * FROM item
SELECT /*! 1 */
SELECT /*!50000 1 + */ 1
SELECT /*!99999 1 + */ 1
SELECT 1 /*M! + 1 */
SELECT 1 /* outer /* inner */ + 1
SELECT \N
SELECT [a]
SELECT $$a$$
SELECT 1 AS $a
SELECT 1 INTO OUTFILE '/nosuch/folder/x'
SELECT 1 INTO DUMPFILE '/nosuch/folder/x'
SELECT 1 INTO a
SELECT a FROM item PROCEDURE ANALYSE(10)
BEGIN
BEGIN WORK
BEGIN;
START TRANSACTION
START TRANSACTION READ ONLY
START TRANSACTION READ WRITE
START TRANSACTION WITH CONSISTENT SNAPSHOT
START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT
START TRANSACTION; SELECT * FROM item FOR UPDATE
START TRANSACTION; UPDATE item SET price = 1; COMMIT
START TRANSACTION; UPDATE item SET price = 1; ROLLBACK
BEGIN; SAVEPOINT a; UPDATE item SET price = 2; ROLLBACK TO SAVEPOINT a
BEGIN; SAVEPOINT a; RELEASE SAVEPOINT a; COMMIT
BEGIN; TRUNCATE emptied
COMMIT
COMMIT WORK
COMMIT AND CHAIN
COMMIT AND NO CHAIN NO RELEASE
ROLLBACK
ROLLBACK AND CHAIN
ROLLBACK TO a
SAVEPOINT a
RELEASE SAVEPOINT a
USE information_schema
USE {db}
USE `information_schema`; SELECT 1
SELECT 1; USE information_schema
USE nosuch
TABLE item ORDER BY id LIMIT 1
VALUES ROW(1, 2), ROW(3, 4)
EXPLAIN ANALYZE SELECT * FROM item
ANALYZE SELECT * FROM item
ANALYZE FORMAT=JSON UPDATE item SET price = 1
EXPLAIN FOR CONNECTION 1
EXPLAIN FOR SCHEMA information_schema SELECT 1
EXPLAIN FOR SCHEMA information_schema SELECT nosuch FROM nosuch
EXPLAIN FORMAT=JSON FOR DATABASE information_schema SELECT * FROM TABLES
SHOW EXPLAIN FOR 1
SELECT * FROM item FOR SYSTEM_TIME ALL
SELECT * FROM item ORDER BY id FETCH FIRST 1 ROWS ONLY
EXPLAIN item
SELECT * FROM item WHERE id = 1 FOR SHARE
SELECT * FROM item LIMIT 1 FOR UPDATE SKIP LOCKED
SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a INT PATH '$')) AS t
SELECT * FROM item, JSON_TABLE(item.note, '$[*]' COLUMNS (a INT PATH '$')) AS t
SELECT 1 MEMBER OF ('[1]'), 2 MEMBER OF('[1]')
SELECT {fn CONCAT('a')}
SELECT * FROM (SELECT 1) t (a)
SELECT * FROM (VALUES ROW(1)) AS t (a)
WITH a (x) AS (SELECT 1), b (y) AS (SELECT 2) SELECT * FROM a, b
SELECT PREVIOUS VALUE FOR numbers
SELECT LASTVAL(numbers)
SELECT next.value FROM (SELECT 1 AS value) AS next
SELECT 1 AS value
INSERT INTO item (name) VALUES ('a') AS fresh (n) ON DUPLICATE KEY UPDATE name = fresh.n
INSERT INTO orders (item_id, data) VALUES (1, '{"say": "\"hi\""}')
INSERT INTO nosuch (a) VALUES (1)
INSERT INTO item VALUES (1)
DELETE FROM item WHERE id = 2 RETURNING name
SHOW GRANTS
SHOW GRANTS FOR CURRENT_USER()
SHOW CREATE FUNCTION traced
SHOW PROCEDURE STATUS LIKE 'x'
SHOW OPEN TABLES
SHOW PROFILES
SHOW MASTER STATUS
SHOW SESSION STATUS WHERE Variable_name = 'Uptime'
CREATE TABLE made (a INT)
CREATE TABLE IF NOT EXISTS made (a INT)
ALTER TABLE made ADD COLUMN b INT DEFAULT 0
CREATE INDEX made_by_a ON made (a)
RENAME TABLE made TO remade
DROP TABLE remade
DROP TABLE IF EXISTS nosuch
CREATE VIEW seen AS SELECT 1
DROP VIEW seen
CREATE FUNCTION made () RETURNS INT DETERMINISTIC RETURN 1
DROP FUNCTION made
CHECK TABLE item
CHECKSUM TABLE item
OPTIMIZE TABLE item
HELP 'contents'
SET @@global.nosuch = 1
SIGNAL SQLSTATE '45000'
UNLOCK TABLES
DEALLOCATE PREPARE nosuch
CALL nosuch()
LOAD DATA INFILE '/nosuch' INTO TABLE item
"#;

/// Statements that change their session, on MariaDB or MySQL, or would if the objects they name
/// existed.
pub(super) const CHANGING: &str = r#"
SELECT @a := 1
SELECT @a:=id FROM item
SELECT id, (@a := @a + 1) FROM item
SELECT @`a b` := 1
SELECT @'a' := 1
SELECT @"a" := 1
SELECT @a/**/:= 1
SELECT 1 INTO @a
SELECT id, name FROM item LIMIT 1 INTO @a, @b
SELECT id INTO @a FROM item LIMIT 1
(SELECT 1) UNION (SELECT 2) LIMIT 1 INTO @a
SELECT 1; SELECT 2 INTO @a; SELECT 3
SET @a = 1
set @a := 1, @b = 2
/* app */ SET @a = 1
-- app⏎SET @a = 1
SET @a = (SELECT MAX(id) FROM item)
/*! SET @a = 1 */
/*!50000 SET @a = 1 */
/*M! SET @a = 1 */
SELECT /*! @a := */ 1
SELECT 1 /*! INTO @a */
SELECT 1 /*!50000 , @a := 1 */
UPDATE item SET name = @a := 'x' WHERE id = 1
UPDATE item SET price = (@a := price) WHERE id = 1
INSERT INTO item (name) VALUES (@a := 'y')
INSERT INTO item (name) SELECT @a := 'z'
DELETE FROM item WHERE id = (@a := 1000)
DO @a := 1
EXPLAIN SELECT GET_LOCK('{db}', 0)
WITH x AS (SELECT @a := 1) SELECT * FROM x
SELECT * FROM item WHERE id IN (1) AND (@a := 1)
SELECT GET_LOCK('{db}', 0)
select get_lock('{db}', 0)
SELECT GET_LOCK ('{db}', 0)
SELECT/**/GET_LOCK/**/('{db}',0)
DO GET_LOCK('{db}', 0)
SELECT * FROM item WHERE GET_LOCK('{db}', 0)
SELECT IF(GET_LOCK('{db}', 0), 1, 2)
SELECT `GET_LOCK`('{db}', 0)
INSERT INTO item (name) VALUES (GET_LOCK('{db}', 0) + 1000)
SHOW TABLES WHERE GET_LOCK('{db}', 0)
SELECT traced(1)
SELECT traced (1)
SELECT TRACED(1)
SELECT `traced`(1)
SELECT {db}.traced(1)
SELECT {db}.traced (1)
SELECT {db} . traced(1)
SELECT `{db}`.`traced`(1)
SELECT {db}.count(1)
SELECT {db}.trim(1)
SELECT COALESCE(traced(1), 2)
SELECT (traced(1))
SELECT {fn traced(1)}
SELECT {`d` traced(1)}
SELECT 1 MEMBER OF (traced(1))
SELECT CASE WHEN traced(1) THEN 1 END
SELECT * FROM item WHERE id = traced(1)
SELECT * FROM item ORDER BY traced(1)
SELECT * FROM item LEFT JOIN orders ON traced(1)
SELECT * FROM item GROUP BY name HAVING traced(1)
SELECT 1 UNION SELECT traced(1)
(SELECT traced(1))
INSERT INTO item (name) VALUES (traced(21))
INSERT INTO item (name) SELECT traced(22)
INSERT INTO item SET name = traced(23)
INSERT INTO item VALUES (traced(2400), 'q', 1, 1, 'q', NOW())
INSERT INTO item (id) VALUES (1) ON DUPLICATE KEY UPDATE name = traced(25)
REPLACE INTO emptied (a) VALUES (traced(1))
REPLACE INTO emptied SET a = traced(1)
UPDATE item SET price = traced(1) WHERE id = 1
UPDATE item SET name = REPLACE(name, 'a', traced(1)) WHERE id = 1
DELETE FROM item WHERE id = traced(1000)
DO traced(1)
SHOW TABLES WHERE traced(1)
WITH x (a) AS (SELECT traced(1)) SELECT * FROM x
CALL tracing()
CALL tracing
call {db}.tracing()
CALL beginning()
SELECT NEXTVAL(numbers)
SELECT NEXT VALUE FOR numbers
SELECT SETVAL(numbers, 1000)
INSERT INTO item (name) VALUES (NEXTVAL(numbers))
SELECT * FROM sys.processlist
USE sys; SELECT * FROM processlist
SET NAMES latin1
SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'
SET CHARACTER SET latin1
SET CHARSET latin1
SET autocommit = 0
set autocommit=off
SET autocommit = 0; SELECT * FROM item
SET @@autocommit = 0
SET sql_mode = 'ANSI_QUOTES'
SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')
SET LOCAL sql_mode = ''
SET @@session.sql_mode := 'ANSI'
SET @@sql_mode = 'ANSI'
SET `sql_mode` = 'ANSI'
SET time_zone = '+05:00'
SET foreign_key_checks = 0, unique_checks = 0
SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE
SET SESSION TRANSACTION READ ONLY
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
SET TRANSACTION READ ONLY
SET sql_safe_updates = 1
SET max_join_size = 1000
SET sort_buffer_size = 300000
SET insert_id = 50
SET timestamp = 1
SET last_insert_id = 5
SET group_concat_max_len = 4
SET SESSION innodb_lock_wait_timeout = 7
SET STATEMENT sort_buffer_size = 300000 FOR SELECT @a := 1
SET STATEMENT sort_buffer_size = 300000 FOR SET @a = 1
SET STATEMENT sort_buffer_size = 300000 FOR USE information_schema
SET ROLE NONE
SET @a = 1, ROLE NONE
SET NAMES utf8mb4, ROLE NONE
SET PASSWORD FOR nobody = 'x'
SET DEFAULT ROLE NONE
PREPARE warm FROM 'SELECT 1'
PREPARE warm FROM 'SELECT @a := 1'; EXECUTE warm
PREPARE warm FROM @a
PREPARE warm FROM 'USE information_schema'; EXECUTE warm
EXECUTE warm
EXECUTE IMMEDIATE 'SELECT @a := 1'
EXECUTE IMMEDIATE 'USE information_schema'
DROP PREPARE warm
CREATE TEMPORARY TABLE temporary_one (a INT)
CREATE TEMPORARY TABLE IF NOT EXISTS temporary_one AS SELECT * FROM item
create /* a */ temporary -- b⏎ table temporary_one (a int)
CREATE TEMPORARY TABLE temporary_one LIKE item
CREATE TEMPORARY TABLE temporary_one (a ENUM('a'), b SET('b'), c BLOB(9), KEY k (a)) SELECT 'a' AS a
CREATE TEMPORARY TABLE temporary_one (a INT DEFAULT (traced(1)))
CREATE TEMPORARY TABLE temporary_one VALUES (traced(1))
CREATE OR REPLACE TEMPORARY TABLE temporary_one (a INT)
CREATE TEMPORARY TABLE bystander (a INT)
CREATE TEMPORARY TABLE bystander (a INT); DROP TEMPORARY TABLE bystander
CREATE TEMPORARY TABLE temporary_one (a INT); SELECT * FROM temporary_one
SELECT 1; CREATE TEMPORARY TABLE temporary_one (a INT)
DROP TEMPORARY TABLE IF EXISTS temporary_one
ALTER TABLE emptied ADD COLUMN c INT DEFAULT (traced(1))
LOCK TABLES item READ
LOCK TABLES item WRITE, orders READ
LOCK TABLE item READ
HANDLER item OPEN AS opened
HANDLER item OPEN AS opened; HANDLER opened READ FIRST
XA START 'x'
XA BEGIN 'x'
XA START 'x'; UPDATE item SET price = 1; XA END 'x'
SET profiling = 1; SELECT 1
SET SESSION profiling = 1; SELECT 'a text'; SET SESSION profiling = 0
SET optimizer_trace = 'enabled=on'; SELECT * FROM item
SET optimizer_trace = 'enabled=on'; SELECT * FROM item; SET optimizer_trace = 'enabled=off'
SET RESOURCE GROUP USR_default
BEGIN NOT ATOMIC SET @a = 1; END
BEGIN NOT ATOMIC SELECT 1; END
IF 1 THEN SET @a = 1; END IF
CASE 1 WHEN 1 THEN SET @a = 1; END CASE
FOR i IN 1..2 DO SET @a = i; END FOR
one: LOOP SET @a = 1; LEAVE one; END LOOP
REPEAT SET @a = 1; UNTIL 1 END REPEAT
WHILE @a IS NULL DO SET @a = 1; END WHILE
GET DIAGNOSTICS @a = NUMBER
GET DIAGNOSTICS CONDITION 1 @a = MESSAGE_TEXT
COMMIT RELEASE
ROLLBACK RELEASE
COMMIT AND NO CHAIN RELEASE
KILL CONNECTION_ID()
DROP DATABASE nosuch
CREATE DATABASE {db}_more; USE {db}_more; DROP DATABASE {db}_more
LOAD DATA LOCAL INFILE 'x' INTO TABLE item
LOAD DATA INFILE '/nosuch' INTO TABLE item (@a) SET name = @a
SELECT 'a' AS b; SET @a = 1 -- done
SELECT '\', @a := 1 -- '
SELECT 'a' 'b', @a := 1
SELECT "a", @a := 1, "b"
SELECT 1 -- ⏎, @a := 1
SELECT 1 #⏎, @a := 1
SELECT 1 /**/, @a := 1
SELECT 1--1, @a := 1
SELECT CONCAT('a'), traced(1), CONCAT('b')
SELECT {d '2024-01-01'}, @a := 1
SELECT @@sql_mode, @a := 1
"#;
