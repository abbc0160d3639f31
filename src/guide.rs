//! Guides: the pages of the repository's folder `docs`, as modules that hold only text.
//!
#![doc = include_str!("guide-links.md")]
#![doc = include_str!("../docs/README.md")]

macro_rules! guides {
    ($($name:ident: $file:literal,)*) => {$(
        // If a link is defined twice, rustdoc uses the first definition. Those in the pages serve
        // readers of the repository.
        #[doc = include_str!("guide-links.md")]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    )*};
}

guides! {
    guarantees: "guarantees.md",
    what_happens: "what-happens.md",
    settings: "settings.md",
    sizing: "sizing.md",
    recipes: "recipes.md",
    observability: "observability.md",
    cluster: "cluster.md",
    servers: "servers.md",
    limits: "limits.md",
    performance: "performance.md",
    threats: "threats.md",
    architecture: "architecture.md",
    coming_from_sqlalchemy: "coming-from-sqlalchemy.md",
    coming_from_mysql_async: "coming-from-mysql-async.md",
    coming_from_sqlx: "coming-from-sqlx.md",
    coming_from_deadpool: "coming-from-deadpool.md",
}
