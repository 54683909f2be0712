//! Random requests, out of the few words that the configurations use too.

use std::net::IpAddr;

use fastrand::Rng;
use gateway_user::admin::view::{HeaderView, QuestionView};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<HeaderView>,
    pub(crate) port: u16,
}

const HOSTS: &[&str] = &[
    "a.example.com",
    "A.EXAMPLE.com:80",
    "b.example.com",
    "x.a.example.com",
    "example.com",
    "a.org",
    "10.9.1.1",
    "[::1]",
    "a.example.com.",
    "",
    "a/b",
    "x y",
];
const PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/a%2Fb", "//a", "/a/../b", "/%2e%2E/a", "/c"];
const QUERIES: &[&str] = &["", "", "?", "?q=1", "?q=2", "?%71=1", "?p=1&q=1&q=2"];
const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const HEADERS: &[(&str, &str)] = &[
    ("x", "1"),
    ("x", "2"),
    ("Y", "1"),
    ("x", "1,2"),
    ("x-forwarded-for", "6.6.6.6"),
    ("connection", "x"),
    ("te", "trailers"),
    ("expect", "later"),
    ("keep-alive", "5"),
];

pub(crate) fn pick<T: Copy>(rng: &mut Rng, list: &[T]) -> T {
    list[rng.usize(..list.len())]
}

pub(crate) fn random_case(rng: &mut Rng, port: u16) -> Case {
    // Mostly those that fit something.
    let host = if rng.u8(..10) < 7 { HOSTS[rng.usize(..4)] } else { pick(rng, HOSTS) };
    let path = if rng.u8(..10) < 7 { PATHS[rng.usize(..5)] } else { pick(rng, PATHS) };
    let mut headers = vec![HeaderView { name: "Host".to_owned(), value: host.to_owned() }];
    for _ in 0..rng.usize(..3) {
        let (name, value) = pick(rng, HEADERS);
        headers.push(HeaderView { name: name.to_owned(), value: value.to_owned() });
    }
    let target = format!("{path}{}", pick(rng, QUERIES));
    Case { method: pick(rng, METHODS).to_owned(), target, headers, port }
}

impl Case {
    /// The request as it is sent.
    pub(crate) fn written(&self) -> String {
        let fields: String = self.headers.iter().map(|h| format!("{}: {}\r\n", h.name, h.value)).collect();
        format!("{} {} HTTP/1.1\r\n{fields}\r\n", self.method, self.target)
    }

    pub(crate) fn question(&self, to: IpAddr, from: IpAddr) -> QuestionView {
        let Self { method, target, headers, port } = self.clone();
        QuestionView::Http { method, target, headers, to: Some(to), port, from: Some(from), tls: None }
    }
}
