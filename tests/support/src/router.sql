-- The schema that MySQL Shell writes for an InnoDB cluster, as far as MySQL Router 9.7 reads it.
drop schema if exists mysql_innodb_cluster_metadata;
create schema mysql_innodb_cluster_metadata;
use mysql_innodb_cluster_metadata;
create table clusters (cluster_id char(36) primary key, cluster_name varchar(63), description text,
    options json, attributes json, cluster_type varchar(20), primary_mode varchar(10),
    router_options json, clusterset_id varchar(36), group_name varchar(36));
create table clustersets (clusterset_id varchar(36) primary key, domain_name varchar(64), options
    json, attributes json, router_options json);
create table instances (instance_id int unsigned auto_increment primary key, cluster_id char(36),
    address varchar(265), mysql_server_uuid varchar(36), instance_name varchar(265), addresses
    json, attributes json, description text);
create table routers (router_id int unsigned auto_increment primary key, router_name varchar(265),
    product_name varchar(128), address varchar(256), version varchar(12), last_check_in timestamp
    null, attributes json, cluster_id char(36), options json, clusterset_id varchar(36), unique key
    (address, router_name));
create table router_stats (router_id int unsigned primary key, last_check_in timestamp null);
create table routing_guidelines (guideline_id char(36) primary key, clusterset_id varchar(36),
    cluster_id char(36), name varchar(256), guideline json, default_guideline int);
create table router_rest_accounts (cluster_id char(36), user varchar(256), authentication_method
    varchar(64), authentication_string text, description varchar(255), privileges json, attributes
    json, primary key (cluster_id, user));
create view schema_version (major, minor, patch) as select 2, 3, 0;
create view v2_clusters as select cluster_type, primary_mode, cluster_id, cluster_name,
    router_options, clusterset_id from clusters;
create view v2_gr_clusters as select cluster_type, primary_mode, cluster_id, cluster_name,
    group_name, router_options, attributes, clusterset_id from clusters;
create view v2_instances as select instance_id, cluster_id, instance_name as label,
    mysql_server_uuid, address, addresses->>'$.mysqlClassic' as endpoint, addresses->>'$.mysqlX' as
    xendpoint, attributes from instances;
create view v2_this_instance as select i.cluster_id, i.instance_id, c.cluster_name, c.cluster_type
    from instances i join clusters c on i.cluster_id = c.cluster_id where i.mysql_server_uuid =
    (select convert(variable_value using ascii) from performance_schema.global_variables where
    variable_name = 'server_uuid');
create view v2_routers as select router_id, router_name, product_name, address, version,
    last_check_in, attributes, cluster_id, options, clusterset_id from routers;
create view v2_router_options as select r.router_id, r.clusterset_id, r.cluster_id,
    coalesce(c.router_options, '{}') as router_options from routers r left join clusters c on
    c.cluster_id = r.cluster_id;
create view v2_cs_router_options as select router_id, clusterset_id, cast('{}' as json) as
    router_options from routers where false;
create view v2_cs_clustersets as select clusterset_id, domain_name, 1 as view_id, router_options
    from clustersets;
create view v2_cs_members as select clusterset_id, cluster_id, 1 as view_id, 'PRIMARY' as
    member_role, 0 as invalidated from clusters where false;
create view v2_ar_clusters as select cluster_id, cluster_name, 1 as view_id, 'ar' as cluster_type
    from clusters where false;
create view v2_ar_members as select cluster_id, 1 as view_id, instance_id, mysql_server_uuid as
    member_id, 'PRIMARY' as member_role, label from (select *, instance_name as label from
    instances where false) x;
create view v2_router_rest_accounts as select * from router_rest_accounts;
insert into clusters (cluster_id, cluster_name, options, attributes, cluster_type, primary_mode,
    router_options, group_name) values ('7c1e6a2a-6a3e-11ee-8c99-0242ac120002', 'group', '{}',
    '{"adopted":0}', 'gr', 'pm', '{}', '{group}');
insert into instances (cluster_id, address, mysql_server_uuid, instance_name, addresses,
    attributes) select '7c1e6a2a-6a3e-11ee-8c99-0242ac120002', concat('127.0.0.1:', member_port),
    member_id, concat('127.0.0.1:', member_port), json_object('mysqlClassic', concat('127.0.0.1:',
    member_port), 'mysqlX', concat('127.0.0.1:', member_port, '0')), json_object('server_id',
    member_port) from performance_schema.replication_group_members order by member_port;
insert into routers (router_name, product_name, address, version, cluster_id, attributes, options)
    values ('group', 'MySQL Router', 'localhost', '9.7.4', '7c1e6a2a-6a3e-11ee-8c99-0242ac120002',
    '{}', '{}');
