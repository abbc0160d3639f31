//! The page in a real browser: it updates, shows correct values, is readable, and runs no injected
//! script.

use std::{fs, time::Duration};

use test_support::{PATIENCE, Server};

use crate::{
    browser::{Browser, Tab},
    driving::{ACCOUNTS, Running, settings},
};

/// Waits until an element has the expected text.
async fn until(tab: &Tab, id: &str, what: &str, holds: impl (Fn(&str) -> bool) + Sync) {
    let mut said = String::new();
    let expression = format!("document.getElementById('{id}').textContent");
    let waiting = async {
        loop {
            said = tab.text(&expression).await;
            if holds(&said) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
    assert!(in_time, "{id} is not {what}, but {said:?}");
}

async fn is(tab: &Tab, id: &str, text: &str) {
    until(tab, id, text, |said| said == text).await;
}

/// The page of a service that does not wait long for a server that is down.
async fn page_for_an_outage(server: &Server) -> (Running, Browser, Tab) {
    let mut settings = settings(&server.url());
    settings.request_timeout = Duration::from_secs(2);
    let running = Running::ready(settings).await;
    let browser = Browser::start();
    let tab = browser.open(running.client.address).await;
    is(&tab, "link", "live").await;
    (running, browser, tab)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_what_happens_in_the_pool() {
    let server = Server::start().await;
    let (running, browser, tab) = page_for_an_outage(&server).await;
    is(&tab, "readiness", "ready").await;
    is(&tab, "pool", running.pool.name()).await;
    is(&tab, "open", "5").await;
    is(&tab, "in-use", "0").await;
    is(&tab, "rate", "0.0").await;
    is(&tab, "p50", "–").await;
    is(&tab, "query-p50", "–").await;
    is(&tab, "query-rate", "0.0").await;

    // Connections in use, and waiting callers.
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(running.pool.get().await.expect("a connection"));
    }
    is(&tab, "in-use", "10").await;
    is(&tab, "idle", "0").await;
    let waiting = {
        let pool = running.pool.clone();
        tokio::spawn(async move { pool.get_within(PATIENCE).await.map(drop) })
    };
    is(&tab, "waiting", "1").await;
    held.clear();
    waiting.await.expect("no panic").expect("a connection");
    is(&tab, "in-use", "0").await;
    is(&tab, "waiting", "0").await;

    // Gets, and the time they take.
    let gets = tab
        .text("document.getElementById('gets').textContent")
        .await;
    let load = {
        let client = running.client.clone();
        tokio::spawn(async move {
            loop {
                client.get(ACCOUNTS).await;
            }
        })
    };
    until(&tab, "rate", "above 20", |said| {
        said.replace(',', "")
            .parse()
            .is_ok_and(|rate: f64| rate > 20.0)
    })
    .await;
    until(&tab, "gets", "more", |said| said != gets).await;
    until(&tab, "p50", "a time", |said| said.ends_with("ms")).await;
    until(&tab, "p99", "a time", |said| said.ends_with("ms")).await;
    // Query time beside it, as a number and as a picture over time.
    until(&tab, "query-p50", "a time", |said| said.ends_with("ms")).await;
    until(&tab, "query-p99", "a time", |said| said.ends_with("ms")).await;
    until(&tab, "query-rate", "above 0", |said| said != "0.0").await;
    for id in ["times", "queries"] {
        until(&tab, &format!("{id}-top"), "a peak", |said| {
            said.starts_with("peak")
        })
        .await;
        let line = format!("document.querySelector('#{id} path.line').getAttribute('d')");
        let points = tab.text(&line).await.matches('L').count();
        assert!(points > 3, "{points} points over time");
    }
    // The last point of the picture is above its ground.
    let height = "document.querySelector('#queries path.line').getBBox().height";
    let height: f64 = tab.text(height).await.parse().expect("a number");
    assert!(height > 0.0, "{height}");
    load.abort();
    is(&tab, "rate", "0.0").await;

    // An outage, and its end.
    is(&tab, "troubles", "").await;
    server.kill().await;
    running.client.get(ACCOUNTS).await;
    is(&tab, "readiness", "unavailable").await;
    until(&tab, "troubles", "why", |said| said.contains("refused")).await;
    is(&tab, "link", "live").await;
    server.start_again().await;
    is(&tab, "readiness", "ready").await;
    until(&tab, "troubles", "still there", |said| {
        said.contains("refused")
    })
    .await;

    tab.has_complained_of_nothing();
    browser.close().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_back_by_itself_when_the_service_does() {
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let address = running.client.address;
    let browser = Browser::start();
    let tab = browser.open(address).await;
    is(&tab, "link", "live").await;
    // An open page does not prevent the service from ending.
    let stopping = tokio::time::timeout(Duration::from_secs(5), running.stop());
    stopping.await.expect("an end in time");
    until(&tab, "link", "not live", |said| said.starts_with("no news")).await;
    assert_eq!(
        tab.text("document.getElementById('page').dataset.live")
            .await,
        "no"
    );
    let mut settings = settings(&server.url());
    settings.pool = settings.pool.name("another".to_owned());
    let running = Running::start_at(settings, address.port()).await;
    is(&tab, "pool", "another").await;
    is(&tab, "link", "live").await;
    browser.close().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_shows_is_text_and_runs_nothing() {
    let server = Server::shared().await;
    let name = r#"<img src=x onerror="document.title='run'"><b>bold</b>&amp;"#;
    let mut settings = settings(&server.url());
    settings.pool = settings.pool.name(name.to_owned());
    let running = Running::ready(settings).await;
    let browser = Browser::start();
    let tab = browser.open(running.client.address).await;
    is(&tab, "pool", name).await;
    assert_eq!(
        tab.text("document.querySelectorAll('img, h1 b').length")
            .await,
        "0"
    );
    // Even an injected script would not run, because inline scripts are forbidden.
    let tried = "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; \
                 document.body.append(script); return typeof window.ran; })()";
    assert_eq!(tab.text(tried).await, "undefined");
    browser.close().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_readable_in_light_and_dark_and_loads_nothing() {
    let server = Server::start().await;
    let (running, browser, tab) = page_for_an_outage(&server).await;
    let held = [running.pool.get().await, running.pool.get().await];
    is(&tab, "in-use", "2").await;
    // So that an error is shown too.
    server.kill().await;
    running.client.get(ACCOUNTS).await;
    until(&tab, "troubles", "why", |said| said.contains("refused")).await;
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        tab.prefer(scheme).await;
        for width in [1100, 360] {
            tab.resize(width).await;
            let picture = tab.picture().await;
            let file = format!("{}/page-{scheme}-{width}.png", env!("CARGO_TARGET_TMPDIR"));
            fs::write(&file, picture).expect("a picture");
            println!("{file}");
            // Nothing overflows horizontally.
            let fits =
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            assert_eq!(tab.text(fits).await, "true", "{scheme}, {width}");
        }
        grounds.push(
            tab.text("getComputedStyle(document.body).backgroundColor")
                .await,
        );
        // The minimum contrast for text in WCAG AA.
        let unreadable = tab.text(UNREADABLE).await;
        assert_eq!(unreadable, "", "{scheme}");
    }
    assert_ne!(grounds[0], grounds[1]);
    let elsewhere = "performance.getEntriesByType('resource').map((it) => it.name) \
                     .filter((name) => !name.startsWith(location.origin)).join()";
    assert_eq!(tab.text(elsewhere).await, "");
    tab.has_complained_of_nothing();
    drop(held);
    browser.close().await;
    running.stop().await;
}

/// The texts with a contrast below 4.5 to their background.
const UNREADABLE: &str = r"(() => {
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((c) => c / 255)
      .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const alpha = numbers(color)[3];
      if (alpha === undefined || alpha > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.body.querySelectorAll('*')].filter((element) =>
    element.offsetParent && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  if (texts.length < 20) return `only ${texts.length} texts`;
  return texts.map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return contrast < 4.5 ? `${element.textContent}: ${contrast.toFixed(1)}` : '';
  }).filter(Boolean).join('; ');
})()";
