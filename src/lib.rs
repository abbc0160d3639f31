//! A warm, safe connection pool for MySQL and MariaDB.
