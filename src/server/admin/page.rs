//! The page at `/`: files that are part of the program. It needs nothing else: what it shows comes from `/events`, and
//! for browsers without scripts a table of the links is written into it.

use super::reply::Reply;
use crate::clock::Now;
use crate::server::Server;

/// A file of the page by its path.
pub(super) fn file(path: &str) -> Option<Reply> {
    let (content_type, content) = match path {
        "/page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
        "/land.svg" => ("image/svg+xml", include_str!("page/land.svg")),
        "/favicon.svg" => ("image/svg+xml", include_str!("page/favicon.svg")),
        "/about.txt" => ("text/plain; charset=utf-8", include_str!("page/about.txt")),
        _ => return None,
    };
    Some(Reply::page(content_type, content.into()))
}

impl Server {
    /// The page, with the links as they are now.
    pub(super) fn page(&self, now: Now) -> Reply {
        let rows: String = self
            .links_shown(now)
            .iter()
            .map(|link| {
                let state = if link.up { "up" } else { "down" };
                let reason = link.reason.as_deref().unwrap_or_default();
                format!(
                    "<tr><th scope=\"row\">{}</th><td>{state}</td><td>{:.1} s</td><td>{}</td></tr>",
                    harmless(link.neighbour),
                    link.lag,
                    harmless(reason)
                )
            })
            .collect();
        let name = harmless(&self.herd.settings().name);
        let page = INDEX.replace("{name}", &name).replace("{rows}", &rows);
        Reply::page("text/html; charset=utf-8", page.into_bytes())
    }
}

/// Text in HTML: no character of it has a meaning there.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => harmless.push_str("&amp;"),
            '<' => harmless.push_str("&lt;"),
            '>' => harmless.push_str("&gt;"),
            '"' => harmless.push_str("&quot;"),
            '\'' => harmless.push_str("&#39;"),
            '{' => harmless.push_str("&#123;"),
            _ => harmless.push(character),
        }
    }
    harmless
}

const INDEX: &str = include_str!("page/index.html");
