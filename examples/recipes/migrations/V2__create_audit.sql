CREATE TABLE audit (
    item BIGINT UNSIGNED NOT NULL,
    what VARCHAR(50) NOT NULL DEFAULT 'created',
    FOREIGN KEY (item) REFERENCES item (id)
);
