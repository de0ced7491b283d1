//! The text of `/etc/resolv.conf`.
//!
//! There is no DNS server of a cluster here, so ClusterFirst means Default, as it does for a
//! kubelet without `clusterDNS`. Source: Kubernetes, `pkg/kubelet/network/dns`: rules and limits.

use k8s_openapi::api::core::v1::PodDNSConfig;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Longest line of searches, bytes.
const SEARCH_BYTES: usize = 2048;
/// Longest search, bytes.
const DOMAIN_BYTES: usize = 253;

/// What a resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolv {
    pub(super) servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    /// Reads a file of the machine. What is not understood is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut resolv = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolv.servers.extend(words.next().map(str::to_owned)),
                // The last one counts.
                Some("search") => resolv.searches = words.map(without_dot).collect(),
                Some("options") => {
                    words.for_each(|word| set_option(&mut resolv.options, word.to_owned()));
                }
                _ => {}
            }
        }
        resolv
    }

    /// Whether the servers can only be reached in the machine's network.
    pub(super) fn is_loopback(&self) -> bool {
        let is_loopback = |server: &String| {
            server.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        self.servers.iter().all(is_loopback)
    }

    /// Adds what the pod wants.
    pub(super) fn with(mut self, config: Option<&PodDNSConfig>) -> Self {
        if let Some(config) = config {
            self.servers.extend(config.nameservers.iter().flatten().cloned());
            self.searches.extend(config.searches.iter().flatten().map(|one| without_dot(one)));
            for option in config.options.iter().flatten() {
                let Some(name) = &option.name else { continue };
                let word = match option.value.as_deref() {
                    Some(value) if !value.is_empty() => format!("{name}:{value}"),
                    _ => name.clone(),
                };
                set_option(&mut self.options, word);
            }
        }
        drop_repeated(&mut self.servers);
        drop_repeated(&mut self.searches);
        self
    }

    /// Cuts off what is more than resolvers take; says so in the kubelet's words.
    pub(super) fn cut(mut self) -> (Self, Vec<String>) {
        let (servers, searches) = (self.servers.len(), self.searches.len());
        self.servers.truncate(MAX_SERVERS);
        self.searches.retain(|search| search.len() <= DOMAIN_BYTES);
        self.searches.truncate(MAX_SEARCHES);
        while self.searches.join(" ").len() > SEARCH_BYTES {
            self.searches.pop();
        }
        let mut warnings = Vec::new();
        if self.servers.len() < servers {
            warnings.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, \
                 the applied nameserver line is: {}",
                self.servers.join(" ")
            ));
        }
        if self.searches.len() < searches {
            warnings.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, \
                 the applied search line is: {}",
                self.searches.join(" ")
            ));
        }
        (self, warnings)
    }

    /// As the file.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn without_dot(domain: &str) -> String {
    let short = domain.strip_suffix('.').filter(|short| !short.is_empty());
    short.unwrap_or(domain).to_owned()
}

/// A later option of the same name takes the place of an earlier one.
fn set_option(options: &mut Vec<String>, word: String) {
    let name = |word: &str| word.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|old| name(old) == name(&word)) {
        Some(old) => *old = word,
        None => options.push(word),
    }
}

fn drop_repeated(words: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|word| seen.insert(word.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "# by hand\nnameserver 10.0.0.1\nsearch old.example\n\
        nameserver 10.0.0.2\nsearch a.example. b.example .\noptions ndots:2 rotate\nsortlist x\n";

    fn config(json: &str) -> PodDNSConfig {
        serde_json::from_str(json).unwrap()
    }

    fn text(resolv: Resolv) -> String {
        resolv.with(None).cut().0.text()
    }

    #[test]
    fn the_file_of_the_machine() {
        assert_eq!(
            text(Resolv::parse(NODE)),
            "search a.example b.example .\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n\
             options ndots:2 rotate\n"
        );
        assert_eq!(text(Resolv::parse("")), "");
        assert!(Resolv::parse("nameserver 127.0.0.53\nnameserver ::1\n").is_loopback());
        assert!(!Resolv::parse(NODE).is_loopback());
    }

    #[test]
    fn the_pod_adds_and_overrides() {
        let config = config(
            r#"{"nameservers":["10.0.0.2","1.1.1.1","8.8.8.8"],"searches":["b.example","c."],
                "options":[{"name":"ndots","value":"5"},{"name":"edns0"},{"value":"x"}]}"#,
        );
        assert_eq!(
            text(Resolv::parse(NODE).with(Some(&config))),
            "search a.example b.example . c\n\
             nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 1.1.1.1\n\
             options ndots:5 rotate edns0\n"
        );
        assert_eq!(
            text(Resolv::default().with(Some(&config))),
            "search b.example c\nnameserver 10.0.0.2\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n\
             options ndots:5 edns0\n"
        );
    }

    #[test]
    fn too_much_is_cut_off() {
        let many: Vec<String> = (0..40).map(|n| format!("s{n}.example")).collect();
        let long = "x".repeat(254);
        let all = [vec![long.clone()], many].concat();
        let all = serde_json::json!({ "searches": all });
        let (resolv, warnings) = Resolv::default().with(Some(&config(&all.to_string()))).cut();
        assert_eq!(resolv.searches.len(), 32);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with(&resolv.searches.join(" ")), "{warnings:?}");
        assert!(!resolv.searches.contains(&long));
        let wide: Vec<String> = (10..30).map(|n| format!("{n}{}", "y".repeat(198))).collect();
        let wide = serde_json::json!({ "searches": wide });
        let (resolv, _) = Resolv::default().with(Some(&config(&wide.to_string()))).cut();
        assert_eq!(resolv.searches.len(), 10, "of 200 bytes and a space each");
        let four = config(r#"{"nameservers":["1.1.1.1","2.2.2.2","3.3.3.3","4.4.4.4"]}"#);
        let (_, warnings) = Resolv::default().with(Some(&four)).cut();
        assert_eq!(
            warnings,
            ["Nameserver limits were exceeded, some nameservers have been omitted, \
              the applied nameserver line is: 1.1.1.1 2.2.2.2 3.3.3.3"]
        );
    }
}
