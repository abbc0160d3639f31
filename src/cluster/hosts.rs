//! Splits settings that name several hosts into settings for each host, which `PoolConfig` reads.

/// The parts of a URL as far as hosts and query matter.
struct Url<'a> {
    /// Up to the hosts: scheme and account.
    start: &'a str,
    hosts: &'a str,
    /// The path.
    path: &'a str,
    query: Option<&'a str>,
}

/// A URL for each host, without the parameters that `take` has taken.
pub(super) fn urls(url: &str, take: impl FnMut(&str, &str) -> bool) -> Vec<String> {
    let url = url.trim();
    let Some(parts) = Url::split(url) else {
        // `PoolConfig` will report its fault.
        return vec![url.to_owned()];
    };
    let query = parts
        .query
        .map(|query| without(query, take))
        .unwrap_or_default();
    let query = if query.is_empty() {
        query
    } else {
        format!("?{query}")
    };
    let hosts = parts.hosts.split(',');
    hosts
        .map(|host| format!("{}{host}{}{query}", parts.start, parts.path))
        .collect()
}

/// The variables for each host, without the parameters of the URL that `take` has taken.
pub(super) fn variables(
    prefix: &str,
    variables: Vec<(String, Option<String>)>,
    take: impl FnMut(&str, &str) -> bool,
) -> Vec<Vec<(String, Option<String>)>> {
    let named = |part: &str| format!("{prefix}_{part}");
    let value = |name: String| {
        let found = variables.iter().find(|(other, _)| *other == name);
        found
            .and_then(|(_, value)| value.clone())
            .filter(|value| !value.trim().is_empty())
    };
    let mut each: Vec<Vec<(&'static str, String)>> = Vec::new();
    let urls = value(named("URL")).map(|url| urls(&url, take));
    let host = value(named("HOST")).filter(|host| host.contains(','));
    match (urls, host) {
        (urls, Some(hosts)) => {
            // They win over those of the URL.
            let url = urls.and_then(|urls| urls.into_iter().next());
            for host in hosts.split(',').map(str::trim) {
                // An empty variable would count as missing, so that the fault is not seen.
                let host = if host.is_empty() { &hosts } else { host };
                let (host, port) = host_and_port(host);
                let mut changed = vec![("HOST", host.to_owned())];
                changed.extend(port.map(|port| ("PORT", port.to_owned())));
                changed.extend(url.clone().map(|url| ("URL", url)));
                each.push(changed);
            }
        }
        (Some(urls), None) => each.extend(urls.into_iter().map(|url| vec![("URL", url)])),
        (None, None) => each.push(Vec::new()),
    }
    let with = |changed: Vec<(&'static str, String)>| {
        let mut all = variables.clone();
        for (part, value) in changed {
            all.retain(|(name, _)| *name != named(part));
            all.push((named(part), Some(value)));
        }
        all
    };
    each.into_iter().map(with).collect()
}

impl<'a> Url<'a> {
    fn split(url: &'a str) -> Option<Self> {
        let begin = url.find("://")?.checked_add(3)?;
        let (scheme, rest) = url.split_at_checked(begin)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end)?;
        let account = authority
            .rfind('@')
            .map_or(Some(0), |at| at.checked_add(1))?;
        let (_, hosts) = authority.split_at_checked(account)?;
        let start = url.get(..scheme.len().checked_add(account)?)?;
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (tail, None),
        };
        Some(Self {
            start,
            hosts,
            path,
            query,
        })
    }
}

/// A query without the parameters that `take` has taken.
fn without(query: &str, mut take: impl FnMut(&str, &str) -> bool) -> String {
    let kept = query.split('&').filter(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        !take(key, value)
    });
    kept.collect::<Vec<_>>().join("&")
}

/// Splits `db:3307` and `[::1]:3307`; a bare IPv6 address has no port.
pub(super) fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}
