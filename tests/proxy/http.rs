//! What passes through, and how: messages, fields, framing, connections kept alive.

use super::fixture::*;

#[test]
fn a_request_passes_and_is_counted() {
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let gateway = Gateway::http(single(), &web(&[backend.at]));
        let answer = Peer::connect(gateway.at(v6)).ask(
            "GET /a%2Fb//c?q=%20 HTTP/1.1\r\nHost: A.example:99\r\nX-Forwarded-For: 6.6.6.6\r\n\
             Connection: x-hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\nForwarded: for=6.6.6.6\r\nAccept: */*\r\n\r\n",
        );
        assert_eq!(answer.status(), 200);
        let client = if v6 { "::1" } else { "127.0.0.1" };
        let node = if v6 { "\"[::1]\"" } else { "127.0.0.1" };
        assert_eq!(
            answer.text(),
            format!(
                "one\nGET /a%2Fb//c?q=%20 HTTP/1.1\r\nhost: A.example:99\r\naccept: */*\r\n\
                 x-forwarded-for: {client}\r\nx-forwarded-proto: http\r\nforwarded: for={node};proto=http\r\n"
            )
        );
        gateway.wait("the request to be counted", |t| t.http.iter().any(|(_, h)| h.status[1] == 1));
        let totals = gateway.totals();
        let (key, http) = totals.http.iter().find(|(_, h)| h.status[1] == 1).unwrap();
        assert_eq!((&*key.route, &*key.rule, &*key.backend), ("default/all", "0", "default/web:80"));
        assert_eq!(http.bytes_out, answer.body.len() as u64);
        assert_eq!(http.latency.buckets.iter().sum::<u64>(), 1);
        assert_eq!(totals.accepted.iter().map(|(_, n)| n).sum::<u64>(), 1);
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    for n in 0..50 {
        assert!(client.get(&format!("/{n}")).text().contains(&format!("GET /{n} ")));
    }
    drop(client);
    assert_eq!(get(gateway.at(false), "/").status(), 200);
    assert_eq!(backend.connections(), 1);
    let totals = gateway.totals();
    assert_eq!((totals.upstream_connects, totals.upstream_reuses), (1, 50));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    let all: String = (0..30)
        .map(|n| {
            format!("POST /{n} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET /g{n} HTTP/1.1\r\nhost: a\r\n\r\n")
        })
        .collect();
    client.send(&all);
    for n in 0..30 {
        let answer = client.message(false).unwrap().text();
        assert!(answer.contains(&format!("POST /{n} ")) && answer.ends_with("abc"), "{answer}");
        assert!(client.message(false).unwrap().text().contains(&format!("GET /g{n} ")));
    }
}

#[test]
fn bodies_however_they_are_framed() {
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let gateway = Gateway::http(config(), &web(&[backend.at]));
        let mut client = Peer::connect(gateway.at(v6));
        let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        assert!(answer.text().contains("content-length: 5\r\n") && answer.text().ends_with("hello"));
        let answer = client.ask(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        );
        let text = answer.text();
        assert!(text.contains("transfer-encoding: chunked\r\n") && text.ends_with("hello world"), "{text}");
        assert!(!text.contains("content-length"), "{text}");
        // Neither length nor body.
        let answer = client.ask("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(!answer.text().contains("content-length") && !answer.text().contains("transfer-encoding"));
        // A zero that was said is passed on.
        let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert!(answer.text().contains("content-length: 0\r\n"), "{}", answer.text());
    }
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        let request = peer.message(true).unwrap();
        assert!(request.head.contains("te: trailers\r\n"), "{}", request.head);
        assert_eq!(request.trailers, "x-sum: 7\r\n");
        peer.send(
            "HTTP/1.1 200 OK\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 9\r\n\r\n",
        );
    });
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let answer = Peer::connect(gateway.at(false)).ask(
        "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
         1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("ok", "x-end: 9\r\n"));
}

#[test]
fn answers_without_a_body_keep_their_length_and_the_connection() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        while let Some(request) = peer.message(true) {
            peer.send(match request.head.split(' ').nth(1).unwrap() {
                "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
                "/hints" => "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                _ => "HTTP/1.1 404 Nope\r\ncontent-length: 2\r\n\r\nno",
            });
        }
    });
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    client.send("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.lines().unwrap();
    assert!(head.contains("content-length: 1234\r\n"), "{head}");
    assert_eq!(client.get("/204").status(), 204);
    let unchanged = client.get("/304");
    assert_eq!((unchanged.status(), unchanged.field("etag")), (304, Some("x")));
    assert_eq!(client.get("/hints").text(), "ok");
    assert_eq!(client.get("/none").text(), "no");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_body_until_the_end_of_the_connection_and_an_old_client() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.message(true);
        peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    let answer = client.get("/");
    assert_eq!(
        (answer.field("transfer-encoding"), answer.text().as_str()),
        (Some("chunked"), "until the end")
    );
    let mut old = Peer::connect(gateway.at(false));
    let answer = old.ask("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!((answer.field("transfer-encoding"), answer.text().as_str()), (None, "until the end"));
    assert!(old.is_closed());
}

#[test]
fn a_client_that_expects_100_gets_it_and_the_backend_is_not_asked() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.lines().unwrap(), "HTTP/1.1 100 Continue\r\n");
    let answer = client.ask("hello");
    assert!(answer.text().ends_with("hello") && !answer.text().contains("expect"), "{}", answer.text());
    // An answer of our own comes without it.
    let gateway = Gateway::http(config(), "");
    let mut client = Peer::connect(gateway.at(false));
    let answer =
        client.ask("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(answer.status(), 404);
}

#[test]
fn absolute_form_decides_and_replaces_the_host() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    let answer = client.ask("GET http://b.example:80/x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert!(answer.text().contains("GET /x HTTP/1.1\r\nhost: b.example:80\r\n"), "{}", answer.text());
}

#[test]
fn close_is_the_clients_business_alone() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    for _ in 0..10 {
        let mut client = Peer::connect(gateway.at(false));
        let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(!answer.text().contains("connection"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert!(client.is_closed());
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_early_answer_does_not_wait_for_the_request() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.lines();
        peer.send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig");
        std::thread::sleep(PATIENCE);
    });
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\npart");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[test]
fn a_trusted_proxy_s_word_about_its_client_counts_and_nobody_elses() {
    let class = |trusted: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: sluice}}\nspec:\n  \
             controllerName: sluice-gateway.dev/controller\n  parametersRef: {{group: sluice-gateway.dev, \
             kind: SluiceParameters, name: edge, namespace: default}}\n---\napiVersion: sluice-gateway.dev/v1\n\
             kind: SluiceParameters\nmetadata: {{name: edge}}\nspec: {{trustedProxies: [{trusted}]}}\n"
        )
    };
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let (client, node) = if v6 { ("::1", "\"[::1]\"") } else { ("127.0.0.1", "127.0.0.1") };
        let own = format!(
            "x-forwarded-for: {client}\r\nx-forwarded-proto: http\r\nforwarded: for={node};proto=http\r\n"
        );
        let told = format!(
            "x-forwarded-for: 6.6.6.6, {client}\r\nx-forwarded-proto: https\r\n\
             forwarded: for=6.6.6.6, for={node};proto=http\r\nx-forwarded-host: shop.example\r\n"
        );
        for (trusted, want) in
            [("192.0.2.0/24, '2001:db8::/64'", &own), ("192.0.2.0/24, 127.0.0.0/8, '::1'", &told)]
        {
            let gateway = Gateway::http(single(), &(web(&[backend.at]) + &class(trusted)));
            let answer = Peer::connect(gateway.at(v6)).ask(
                "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\n\
                 x-forwarded-host: shop.example\r\nforwarded: for=6.6.6.6\r\n\r\n",
            );
            assert_eq!(answer.text(), format!("one\nGET / HTTP/1.1\r\nhost: a\r\n{want}"), "{trusted}");
        }
    }
}
