//! Names that a parenthesis may follow without calling a stored function.
//!
//! The integration tests check each of them on the server under test.

/// Keywords, types among them, that a parenthesis may follow. Unquoted, they never name a stored
/// function.
#[rustfmt::skip]
pub(crate) const KEYWORDS: &[&str] = &[
    "ALL", "AND", "ANY", "AS", "BETWEEN", "BIGINT", "BINARY", "BIT", "BY", "CASE", "CHARACTER",
    "DATETIME", "DEC", "DECIMAL", "DISTINCT", "DISTINCTROW", "DIV", "DOUBLE", "ELSE", "EXCEPT",
    "EXISTS", "FLOAT", "FROM", "HAVING", "HIGH_PRIORITY", "IN", "INDEX", "INT", "INTEGER",
    "INTERSECT", "JOIN", "KEY", "LIKE", "MEDIUMINT", "NCHAR", "NOT", "NUMERIC", "ON", "OR", "OVER",
    "PARTITION", "REAL", "REGEXP", "RETURNING", "RLIKE", "ROW", "SELECT", "SMALLINT", "SOME",
    "SQL_BIG_RESULT", "SQL_SMALL_RESULT", "STRAIGHT_JOIN", "TEXT", "THEN", "TINYINT", "UNION",
    "USING", "VALUE", "VALUES", "VARBINARY", "VARCHAR", "VARCHARACTER", "WHEN", "WHERE", "XOR",
];

/// Functions that are built into MariaDB (from 10.5) *and* MySQL (from 8.0), and leave nothing
/// behind.
///
/// Left out are names that only one of them knows (`ANY_VALUE`, `NVL`), or only some versions
/// (`MD5`, which MySQL 9.7 lacks; `JSON_OVERLAPS`, new in MariaDB 10.9): elsewhere they may name a
/// stored function.
#[rustfmt::skip]
pub(crate) const BUILT_IN: &[&str] = &[
    "ABS", "ACOS", "ADDTIME", "AES_DECRYPT", "AES_ENCRYPT", "ASCII", "ASIN", "ATAN", "ATAN2",
    "AVG", "BENCHMARK", "BIN", "BIT_COUNT", "BIT_LENGTH", "CEIL", "CEILING", "CHAR",
    "CHARACTER_LENGTH", "CHARSET", "CHAR_LENGTH", "COALESCE", "COERCIBILITY", "COLLATION",
    "COMPRESS", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONV", "CONVERT", "CONVERT_TZ", "COS",
    "COT", "CRC32", "CURRENT_DATE", "CURRENT_ROLE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "DATABASE", "DATE", "DATEDIFF", "DAY", "DAYNAME", "DAYOFMONTH",
    "DAYOFWEEK", "DAYOFYEAR", "DEFAULT", "DEGREES", "ELT", "EXP", "EXPORT_SET", "FIELD",
    "FIND_IN_SET", "FLOOR", "FORMAT", "FOUND_ROWS", "FROM_BASE64", "FROM_DAYS", "FROM_UNIXTIME",
    "GET_FORMAT", "GREATEST", "HEX", "HOUR", "IF", "IFNULL", "INET6_ATON", "INET6_NTOA",
    "INET_ATON", "INET_NTOA", "INSERT", "INSTR", "INTERVAL", "ISNULL", "IS_FREE_LOCK", "IS_IPV4",
    "IS_IPV4_COMPAT", "IS_IPV4_MAPPED", "IS_IPV6", "IS_USED_LOCK", "JSON_ARRAY",
    "JSON_ARRAY_APPEND", "JSON_ARRAY_INSERT", "JSON_CONTAINS", "JSON_CONTAINS_PATH", "JSON_DEPTH",
    "JSON_EXTRACT", "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_MERGE", "JSON_MERGE_PATCH",
    "JSON_MERGE_PRESERVE", "JSON_OBJECT", "JSON_PRETTY", "JSON_QUOTE",
    "JSON_REMOVE", "JSON_REPLACE", "JSON_SEARCH", "JSON_SET", "JSON_TYPE", "JSON_UNQUOTE",
    "JSON_VALID", "JSON_VALUE", "LAST_DAY", "LAST_VALUE", "LCASE", "LEAST", "LEFT", "LENGTH", "LN",
    "LOAD_FILE", "LOCALTIME", "LOCALTIMESTAMP", "LOCATE", "LOG", "LOG10", "LOG2", "LOWER", "LPAD",
    "LTRIM", "MAKEDATE", "MAKETIME", "MAKE_SET", "MATCH", "MBRCONTAINS", "MBRDISJOINT",
    "MBREQUALS", "MBRINTERSECTS", "MBROVERLAPS", "MBRTOUCHES", "MBRWITHIN", "MICROSECOND",
    "MINUTE", "MOD", "MONTH", "MONTHNAME", "NAME_CONST", "NULLIF", "OCT", "OCTET_LENGTH", "ORD",
    "PERIOD_ADD", "PERIOD_DIFF", "PI", "POW", "POWER", "QUARTER", "QUOTE", "RADIANS", "RAND",
    "REGEXP_INSTR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REPEAT", "REPLACE",
    "REVERSE", "RIGHT", "ROUND", "ROW_COUNT", "RPAD", "RTRIM", "SCHEMA", "SECOND",
    "SEC_TO_TIME", "SHA2", "SIGN", "SIN", "SLEEP", "SOUNDEX", "SPACE", "SQRT", "STRCMP",
    "STR_TO_DATE", "ST_AREA", "ST_ASBINARY", "ST_ASGEOJSON", "ST_ASTEXT", "ST_ASWKB", "ST_ASWKT",
    "ST_BUFFER", "ST_CENTROID", "ST_CONTAINS", "ST_CONVEXHULL", "ST_CROSSES", "ST_DIFFERENCE",
    "ST_DIMENSION", "ST_DISJOINT", "ST_DISTANCE", "ST_DISTANCE_SPHERE", "ST_ENDPOINT",
    "ST_ENVELOPE", "ST_EQUALS", "ST_EXTERIORRING", "ST_GEOMCOLLFROMTEXT", "ST_GEOMCOLLFROMWKB",
    "ST_GEOMETRYCOLLECTIONFROMTEXT", "ST_GEOMETRYCOLLECTIONFROMWKB", "ST_GEOMETRYFROMTEXT",
    "ST_GEOMETRYFROMWKB", "ST_GEOMETRYN", "ST_GEOMETRYTYPE", "ST_GEOMFROMGEOJSON",
    "ST_GEOMFROMTEXT", "ST_GEOMFROMWKB", "ST_INTERIORRINGN", "ST_INTERSECTION", "ST_INTERSECTS",
    "ST_ISCLOSED", "ST_ISEMPTY", "ST_ISSIMPLE", "ST_LENGTH", "ST_LINEFROMTEXT", "ST_LINEFROMWKB",
    "ST_LINESTRINGFROMTEXT", "ST_LINESTRINGFROMWKB", "ST_MLINEFROMTEXT", "ST_MPOINTFROMTEXT",
    "ST_MPOLYFROMTEXT", "ST_NUMGEOMETRIES", "ST_NUMINTERIORRINGS", "ST_NUMPOINTS", "ST_OVERLAPS",
    "ST_POINTFROMTEXT", "ST_POINTFROMWKB", "ST_POINTN", "ST_POLYFROMTEXT", "ST_POLYFROMWKB",
    "ST_POLYGONFROMTEXT", "ST_POLYGONFROMWKB", "ST_SRID", "ST_STARTPOINT", "ST_SYMDIFFERENCE",
    "ST_TOUCHES", "ST_UNION", "ST_WITHIN", "ST_X", "ST_Y", "SUBSTRING_INDEX", "SUBTIME", "TAN",
    "TIME", "TIMEDIFF", "TIMESTAMP", "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC",
    "TO_BASE64", "TO_DAYS", "TO_SECONDS", "TRUNCATE", "UCASE", "UNCOMPRESS", "UNCOMPRESSED_LENGTH",
    "UNHEX", "UNIX_TIMESTAMP", "UPPER", "USER", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UUID",
    "UUID_SHORT", "VERSION", "WEEK", "WEEKDAY", "WEEKOFYEAR", "WEIGHT_STRING", "YEAR", "YEARWEEK",
];

/// Functions that are built into both servers, but only if the parenthesis follows directly. With
/// white space before it, the name may be a stored function's, unless `IGNORE_SPACE` is set.
#[rustfmt::skip]
pub(crate) const BUILT_IN_IF_ADJACENT: &[&str] = &[
    "ADDDATE", "BIT_AND", "BIT_OR", "BIT_XOR", "CAST", "COUNT", "CUME_DIST", "CURDATE", "CURTIME",
    "DATE_ADD", "DATE_FORMAT", "DATE_SUB", "DENSE_RANK", "EXTRACT", "FIRST_VALUE", "GROUP_CONCAT",
    "JSON_ARRAYAGG", "JSON_OBJECTAGG", "LAG", "LEAD", "MAX", "MID", "MIN", "NOW", "NTH_VALUE",
    "NTILE", "PERCENT_RANK", "POSITION", "RANK", "ROW_NUMBER", "SESSION_USER", "STD", "STDDEV",
    "STDDEV_POP", "STDDEV_SAMP", "SUBDATE", "SUBSTR", "SUBSTRING", "SUM", "SYSDATE", "SYSTEM_USER",
    "TRIM", "VARIANCE", "VAR_POP", "VAR_SAMP",
];

/// Whether one of the lists above holds the word, in any case.
pub(super) fn contains(sorted: &[&str], word: &[u8]) -> bool {
    let capitals = || word.iter().map(u8::to_ascii_uppercase);
    sorted
        .binary_search_by(|name| name.bytes().cmp(capitals()))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, BUILT_IN_IF_ADJACENT, KEYWORDS, contains};

    #[test]
    fn lists_are_sorted_upper_case_and_disjoint() {
        for list in [KEYWORDS, BUILT_IN, BUILT_IN_IF_ADJACENT] {
            assert!(list.is_sorted_by(|one, next| one < next));
            for name in list {
                assert_eq!(*name, name.to_ascii_uppercase());
            }
        }
        for name in KEYWORDS.iter().chain(BUILT_IN_IF_ADJACENT) {
            assert!(
                !contains(BUILT_IN, name.as_bytes()),
                "{name} is in two lists"
            );
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert!(contains(BUILT_IN, b"CONCAT") && contains(BUILT_IN, b"concat"));
        assert!(!contains(BUILT_IN, b"CONCA") && !contains(BUILT_IN, b"CONCAT_"));
    }
}
