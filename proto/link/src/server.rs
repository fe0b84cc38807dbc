//! A gRPC server within limits: mutual TLS or a unix socket, health, reflection, and an end that is bounded.
//!
//! ```text
//! standard() + own services ─▶ builder(limits).layer(…) ─▶ serve(router, incoming, …) ─stop─▶ drain ─▶ cut
//! ```

use std::io;
use std::time::Duration;

use rfs_model::ByteCount;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};
use tonic_health::server::HealthReporter;
use tower::{Layer, Service};
use tracing::warn;

/// What a server bears. The defaults are for a fleet of ten thousand hosts.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How soon a peer must say something.
    pub first_byte: Duration,
    /// How many connections may be open whose peers have proven nothing yet.
    pub unproven: usize,
    /// How many of them from one address.
    pub unproven_of_one_address: usize,
    /// How many connections may be open whose peers are known. The last of them are not for agents, so that a person gets in
    /// although more agents come than there is room for.
    pub connections: usize,
    /// How many connections one identity may have.
    pub connections_of_one_identity: usize,
    /// How often an idle connection is asked for a sign of life.
    pub keepalive: Duration,
    /// How long the answer may take before the connection counts as dead.
    pub keepalive_timeout: Duration,
    /// The age at which a connection takes no further calls and ends with its last one. Long streams go on: a
    /// certificate's expiry and a change of roots end those.
    pub connection_age: Option<Duration>,
    /// How many calls of one connection run at once; further ones wait at the client.
    pub calls_per_connection: u32,
    /// How large a message may be. Generated services are given it by `max_decoding_message_size`.
    pub message: ByteCount,
    /// How long calls may take to end once the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            first_byte: Duration::from_secs(2),
            unproven: 4096,
            unproven_of_one_address: 2048,
            connections: usize::MAX,
            connections_of_one_identity: 256,
            keepalive: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            connection_age: Some(Duration::from_secs(3600)),
            calls_per_connection: 128,
            message: ByteCount(16 << 20),
            drain: Duration::from_secs(5),
        }
    }
}

/// Open files that are not connections: the store, what is read and written in between, and what libraries hold.
const OTHER_FILES: u64 = 128;

impl Limits {
    /// These limits in a process that may have so many open files; none means without a bound. Connections leave room for the
    /// other files: a store that cannot be opened would cost more than a peer that comes again later.
    #[must_use]
    pub fn within(mut self, files: Option<u64>) -> Self {
        let Some(files) = files else { return self };
        let count = |files: u64| usize::try_from(files).unwrap_or(usize::MAX);
        self.unproven = self.unproven.min(count(files / 8).max(1));
        self.unproven_of_one_address = self.unproven_of_one_address.min(self.unproven);
        let left = files.saturating_sub(OTHER_FILES + self.unproven as u64);
        self.connections = self.connections.min(count(left).max(1));
        self
    }

    /// How many agents may be connected.
    pub fn agents(&self) -> usize {
        self.connections - (self.connections / 16).min(64)
    }

    /// The largest message in bytes, as generated services want it.
    pub fn message_bytes(&self) -> usize {
        usize::try_from(self.message.0).unwrap_or(usize::MAX)
    }
}

/// Lets this process have as many open files as the system allows it, and says how many that is, if there is a bound: what was
/// set for people's shells is too few for a server.
pub fn raise_file_limit() -> Option<u64> {
    raise_file_limit_to(0)
}

/// The same; where the system allows fewer than `needed`, it is asked for that many, which root may have.
pub fn raise_file_limit_to(needed: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map(|maximum| maximum.max(needed));
    if wanted != maximum && setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted }).is_ok() {
        return wanted;
    }
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            current
        }
    }
}

/// A server within `limits`; give it layers and routes, then [`serve`] it.
pub fn builder(limits: &Limits) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .max_concurrent_streams(limits.calls_per_connection)
        .http2_max_header_list_size(16 << 10);
    match limits.connection_age {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

/// The services that every server has: health, and reflection in both versions that clients speak.
///
/// `descriptors` are the encoded file descriptor sets of the other services. Those of health and of the details of
/// errors are added, so that clients show details decoded. Reflection lists every service in them; where a server has
/// only some, use [`standard_listing`].
pub fn standard(descriptors: &[&'static [u8]]) -> Result<(Routes, HealthReporter), DescriptorError> {
    standard_listing(descriptors, &[])
}

/// As [`standard`], with reflection that lists `services` alone; none means all.
pub fn standard_listing(
    descriptors: &[&'static [u8]],
    services: &[&str],
) -> Result<(Routes, HealthReporter), DescriptorError> {
    const OWN: [&str; 3] = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
        let builder = descriptors
            .iter()
            .fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set));
        let listed = services.iter().chain(OWN.iter().filter(|_| !services.is_empty()));
        listed.fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(health)
        .add_service(reflection().build_v1().map_err(DescriptorError)?)
        .add_service(reflection().build_v1alpha().map_err(DescriptorError)?);
    Ok((routes, reporter))
}

/// Descriptors that do not decode.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors of the services cannot be read")]
pub struct DescriptorError(#[source] tonic_reflection::server::Error);

/// Why serving ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("the server failed")]
pub struct ServeError(#[source] tonic::transport::Error);

/// Serves `router` to `incoming` until `stop` is cancelled, then gives open calls `limits.drain` to end.
///
/// Handlers of streams watch `stop` and end by themselves. What is still open after the drain is cut: `close` is
/// the token that `incoming` was made with.
pub async fn serve<L, IO>(
    router: Router<L>,
    incoming: impl Stream<Item = io::Result<IO>>,
    limits: &Limits,
    stop: CancellationToken,
    close: CancellationToken,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    L: Layer<Routes>,
    L::Service: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send,
    <L::Service as Service<http::Request<Body>>>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let _cut = close.clone().drop_guard();
    let serving = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map_err(ServeError),
        () = stop.cancelled() => {}
    }
    if let Ok(ended) = tokio::time::timeout(limits.drain, &mut serving).await {
        return ended.map_err(ServeError);
    }
    warn!(drain = ?limits.drain, "calls are still open after the drain; they are cut");
    close.cancel();
    // Cut connections end at once; the second bound is for a fault in the library.
    let _: Result<_, _> = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(files: u64) -> (usize, usize, usize) {
        let limits = Limits::default().within(Some(files));
        assert!(limits.unproven_of_one_address <= limits.unproven);
        (limits.unproven, limits.connections, limits.agents())
    }

    #[test]
    fn connections_leave_room_for_other_files_and_agents_leave_room_for_people() {
        assert_eq!(within(1024), (128, 768, 720));
        assert_eq!(within(65_536), (4096, 61_312, 61_248));
        assert_eq!(within(0), (1, 1, 1));
        assert_eq!(Limits::default().within(None).connections, usize::MAX);
    }
}
