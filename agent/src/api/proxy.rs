//! Proxies, from the environment.
//!
//! Source: reference agent, section 1. Differences: `NO_PROXY` may be separated by spaces *and* by
//! commas and may hold networks; of two different spellings of one variable the lower-case one wins
//! with a warning.

use reqwest::{NoProxy, Proxy};

/// The proxies that the environment names.
///
/// # Errors
/// Text that names the variable and the remedy.
pub(super) fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Proxy>, String> {
    let no_proxy = exceptions(lookup(env, "no_proxy").as_deref());
    let mut proxies = Vec::new();
    for (name, build) in [
        (
            "http_proxy",
            Proxy::http as fn(reqwest::Url) -> reqwest::Result<Proxy>,
        ),
        ("https_proxy", Proxy::https),
    ] {
        let Some(text) = lookup(env, name) else {
            continue;
        };
        if name == "http_proxy" && env("REQUEST_METHOD").is_some() {
            log::warn!(
                "http_proxy is ignored: REQUEST_METHOD is set, so the variable may come from a request"
            );
            continue;
        }
        // the value may hold a password: it is not repeated in the text
        let url = parse(&text).ok_or_else(|| {
            format!(
                "the variable {name} is no proxy URL; write it as http://[USER:PASSWORD@]HOST:PORT"
            )
        })?;
        let proxy = build(url)
            .map_err(|_| format!("the variable {name} names a proxy that cannot be used"))?;
        proxies.push(proxy.no_proxy(NoProxy::from_string(&no_proxy)));
    }
    Ok(proxies)
}

fn lookup(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    let given = |name: &str| {
        env(name)
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
    };
    let (lower, upper) = (given(name), given(&name.to_ascii_uppercase()));
    if let (Some(lower), Some(upper)) = (&lower, &upper)
        && lower != upper
    {
        log::warn!(
            "{name} and {} differ; {name} is used",
            name.to_ascii_uppercase()
        );
    }
    lower.or(upper)
}

fn parse(text: &str) -> Option<reqwest::Url> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = reqwest::Url::parse(&full).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && matches!(url.path(), "" | "/")
        && url.query().is_none();
    plain.then_some(url)
}

/// Both separators, as a list with commas.
fn exceptions(text: Option<&str>) -> String {
    text.unwrap_or_default()
        .split([',', ' ', '\t', '\n'])
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_are_taken() {
        assert_eq!(
            exceptions(Some("a.b, c  d\t10.0.0.0/8,,")),
            "a.b,c,d,10.0.0.0/8"
        );
        assert_eq!(exceptions(None), "");
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for good in [
            "http://p:3128",
            "p:3128",
            "http://u:p%40w@p:3128/",
            "https://[::1]:1",
        ] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "http://p:3128/path",
            "socks5://p:1",
            "http://",
            "http://p:1?x",
            "::",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_lower_case_spelling_wins_and_secrets_stay_out_of_errors() {
        let pick = |name: &str| match name {
            "no_proxy" => Some("low".to_owned()),
            "NO_PROXY" => Some("up".to_owned()),
            "https_proxy" => Some("http://u:secret@p:1/path".to_owned()),
            _ => None,
        };
        assert_eq!(lookup(&pick, "no_proxy").as_deref(), Some("low"));
        let text = from_environment(&pick).unwrap_err();
        assert!(
            text.contains("https_proxy") && !text.contains("secret"),
            "{text}"
        );
    }
}
