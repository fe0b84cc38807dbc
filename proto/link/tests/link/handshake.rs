//! Real handshakes on loopback: who is let in, who is not, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use crate::fixture::{Fleet, agent, call, coordinator, dns, open, operator, serve, shown, uri};
use rfs_link::{Connection, Credentials, Limits, LinkError, Patience, Target};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn the_identity_in_a_certificate_arrives_with_each_call() {
    let fleet = Fleet::new("fleet.test");
    let mut server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    for identity in [agent("web-1"), operator("alice"), coordinator()] {
        let credentials = open(fleet.issue("client", &identity));
        let connection = call(&server.target(), credentials.clone()).await.expect("let in");
        let peer = server.peer().await;
        assert_eq!(peer.identity, identity);
        assert_eq!(peer.serial, credentials.own().borrow().serial);
        assert!(peer.addr.ip().is_loopback());
        drop(connection);
    }
}

/// Lets a client with `credentials` call a server of `fleet`, and compares what it is told.
async fn refused(fleet: &Fleet, credentials: Credentials, expected: &str) {
    let server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    let error = call(&server.target(), open(credentials)).await.expect_err("must not be let in");
    let expected = format!("https://{} {expected}", server.addr);
    assert!(error.starts_with(&expected), "{error:?} does not start with {expected:?}");
    assert_eq!(server.credentials.open_connections(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Fleet::new("fleet.test"), Fleet::new("fleet.test"));
    // It trusts us, so that it is we who refuse.
    let credentials = Credentials { ca: ours.ca(), ..theirs.issue("web-1", &agent("web-1")) };
    refused(&ours, credentials, "refused this end's certificate: received fatal alert: UnknownCA").await;
}

#[tokio::test]
async fn a_certificate_without_exactly_one_valid_identity_is_refused() {
    let fleet = Fleet::new("fleet.test");
    let server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    let cases: [&[&str]; 6] = [
        &[],
        &["spiffe://fleet.test/agent/a", "spiffe://fleet.test/agent/b"],
        &["spiffe://fleet.test/root/a"],
        &["spiffe://fleet.test/agent/a/b"],
        &["spiffe://other.test/agent/a"],
        &["https://fleet.test/agent/a"],
    ];
    for uris in cases {
        let credentials = fleet.forge("odd", |params| {
            params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
            params.subject_alt_names.push(dns("localhost"));
        });
        // This end's own check would refuse to load it, so a bare client shows it.
        let told = bare_client(&fleet, server.addr, Some(&credentials), &rustls::version::TLS13).await;
        assert_eq!(told, "received fatal alert: CertificateUnknown", "{uris:?}");
    }
    assert_eq!(server.credentials.open_connections(), 0);
}

#[tokio::test]
async fn without_a_certificate_there_is_no_answer() {
    let fleet = Fleet::new("fleet.test");
    let server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    let told = bare_client(&fleet, server.addr, None, &rustls::version::TLS13).await;
    assert_eq!(told, "received fatal alert: CertificateRequired");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let fleet = Fleet::new("fleet.test");
    let server = serve(open(fleet.issue("coordinator", &coordinator())), Limits::default()).await;
    let credentials = fleet.issue("web-1", &agent("web-1"));
    let told = bare_client(&fleet, server.addr, Some(&credentials), &rustls::version::TLS12).await;
    assert_eq!(told, "received fatal alert: ProtocolVersion");
    let told = bare_client(&fleet, server.addr, Some(&credentials), &rustls::version::TLS13).await;
    assert_eq!(told, "let in", "the same client is let in with TLS 1.3");
}

/// A TLS client that checks nothing of its own: what does the server say to it?
async fn bare_client(
    fleet: &Fleet,
    addr: std::net::SocketAddr,
    credentials: Option<&Credentials>,
    version: &'static rustls::SupportedProtocolVersion,
) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fleet.ca()).expect("the root")).expect("a usable root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    let config = config.expect("a usable version").with_root_certificates(roots);
    let mut config = match credentials {
        None => config.with_no_client_auth(),
        Some(files) => {
            let certificate = CertificateDer::from_pem_file(&files.certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
            config.with_client_auth_cert(vec![certificate], key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(addr).await.expect("the port is open");
    let name = "localhost".try_into().expect("a valid name");
    let told = async {
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        // With TLS 1.3 the server judges after our handshake; the first frame of HTTP/2 shows that we are in.
        tls.read_u8().await
    };
    match told.await {
        Ok(_) => "let in".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_client_trusts_only_a_coordinator_of_its_own_fleet() {
    let (ours, theirs) = (Fleet::new("fleet.test"), Fleet::new("fleet.test"));
    let client = open(ours.issue("web-1", &agent("web-1")));
    let check = async |server: Credentials, expected: &str| {
        let server = serve(open(server), Limits::default()).await;
        let error = call(&server.target(), client.clone()).await.expect_err("must not be trusted");
        let expected = format!("https://{} is not trusted: {expected}", server.addr);
        assert!(error.starts_with(&expected), "{error:?} does not start with {expected:?}");
    };
    check(theirs.issue("coordinator", &coordinator()), "invalid peer certificate: UnknownIssuer").await;
    let of_an_agent = ours.forge("web-2", |params| {
        params.subject_alt_names = vec![uri("spiffe://fleet.test/agent/web-2"), localhost()];
    });
    check(of_an_agent, "the server is agent/web-2, not a coordinator").await;
    let of_another_fleet = ours.forge("other", |params| {
        params.subject_alt_names = vec![uri("spiffe://other.test/coordinator/main"), localhost()];
    });
    check(of_another_fleet, "the certificate is of trust domain other.test, not fleet.test").await;
    let by_another_name = ours.forge("elsewhere", |params| {
        params.subject_alt_names = vec![uri("spiffe://fleet.test/coordinator/main"), dns("elsewhere.test")];
    });
    check(by_another_name, "invalid peer certificate: certificate not valid for name \"127.0.0.1\"").await;
}

fn localhost() -> rcgen::SanType {
    rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}

#[tokio::test]
async fn a_server_name_that_is_set_replaces_the_one_in_the_address() {
    let fleet = Fleet::new("fleet.test");
    let credentials = fleet.forge("coordinator", |params| {
        params.subject_alt_names = vec![uri("spiffe://fleet.test/coordinator/main"), dns("rfs.example.net")];
    });
    let server = serve(open(credentials), Limits::default()).await;
    let client = open(fleet.issue("web-1", &agent("web-1")));
    assert!(call(&server.target(), client.clone()).await.is_err());
    let named = server.target().with_server_name("rfs.example.net").expect("a valid name");
    call(&named, client).await.expect("the set name is in the certificate");
}

#[tokio::test]
async fn what_is_no_coordinator_at_all_is_told_apart() {
    let fleet = Fleet::new("fleet.test");
    let client = open(fleet.issue("web-1", &agent("web-1")));
    let dial = async |listener: Option<TcpListener>, says: &'static [u8]| {
        let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.as_ref().unwrap_or(&closed).local_addr().expect("a bound port");
        drop(closed);
        let answering = tokio::spawn(async move {
            let (mut tcp, _) = listener?.accept().await.ok()?;
            tcp.write_all(says).await.ok()?;
            // Held open: a silent peer is not a closed one.
            std::future::pending::<Option<()>>().await
        });
        let target = Target::parse(&format!("https://{addr}")).expect("a valid address");
        let patience = Patience { connect: Duration::from_millis(300), ..Patience::default() };
        let error = Connection::open(&target, client.clone(), &patience).await.expect_err("nobody there");
        answering.abort();
        error
    };
    let listen = async || Some(TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port"));

    let error = dial(None, b"").await;
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", shown(&error));
    assert!(
        shown(&error).ends_with("cannot be reached: Connection refused (os error 111)"),
        "{}",
        shown(&error)
    );
    let error = dial(listen().await, b"").await;
    assert!(matches!(error, LinkError::Timeout { .. }), "{}", shown(&error));
    let error = dial(listen().await, b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(matches!(error, LinkError::NotTls { .. }), "{}", shown(&error));
}

#[tokio::test]
async fn a_slow_handshake_holds_up_nobody_and_ends() {
    let fleet = Fleet::new("fleet.test");
    let limits = Limits { handshake_timeout: Duration::from_millis(500), ..Limits::default() };
    let server = serve(open(fleet.issue("coordinator", &coordinator())), limits).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.addr).await.expect("the port is open"));
    }
    let client = open(fleet.issue("web-1", &agent("web-1")));
    call(&server.target(), client).await.expect("let in beside the silent ones");
    for mut tcp in silent {
        let ended = tokio::time::timeout(Duration::from_secs(5), tcp.read_u8()).await;
        assert!(ended.expect("cut in time").is_err());
    }
}

#[test]
fn an_address_says_what_is_wrong_with_it() {
    for (text, expected) in [
        ("https://rfs.example.net:7443", "https://rfs.example.net:7443"),
        ("https://rfs.example.net", "https://rfs.example.net:7443"),
        ("https://[::1]:9", "https://[::1]:9"),
        (
            "rfs.example.net:7443",
            "\"rfs.example.net:7443\" is not an address of a coordinator: it starts with https://",
        ),
        ("http://a:1", "\"http://a:1\" is not an address of a coordinator: it starts with https://"),
        ("https://a:1/x", "\"https://a:1/x\" is not an address of a coordinator: nothing follows the port"),
        ("https://-a-:1", "\"https://-a-:1\" is not an address of a coordinator: the host is no valid name"),
        ("", "\"\" is not an address of a coordinator: write https://HOST:PORT"),
    ] {
        let shown = match Target::parse(text) {
            Ok(target) => target.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }
}
