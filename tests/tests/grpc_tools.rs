//! The API as any gRPC client sees it: real `grpcurl` and `buf`, with and without a certificate.

use std::path::Path;
use std::process::Command;

use rfs_tests::bed::{Bed, Said, run};
use rfs_tests::{skip, tools};
use serde_json::Value;

fn grpcurl(tool: &Path, bed: &Bed, who: Option<&str>, arguments: &[&str], call: &[&str]) -> Said {
    let mut command = Command::new(tool);
    command.arg("-cacert").arg(bed.path().join("ca.pem")).args(["-max-time", "60", "-connect-timeout", "5"]);
    if let Some(who) = who {
        command.arg("-cert").arg(bed.path().join(format!("{who}.pem")));
        command.arg("-key").arg(bed.path().join(format!("{who}.key")));
    }
    run(command.args(arguments).arg(format!("localhost:{}", bed.address().port())).args(call))
}

#[test]
fn grpcurl_lists_describes_takes_a_checkpoint_and_watches_a_rollback() {
    let Some(tool) = tools::judge("grpcurl") else {
        return skip("grpc_tools: grpcurl", "grpcurl is not installed (tests/run installs it with pip)");
    };
    let bed = Bed::started(2);
    let call = |arguments: &[&str], call: &[&str]| grpcurl(&tool, &bed, Some("alice"), arguments, call);

    let listed = call(&[], &["list"]);
    for service in [
        "rfs.v1.HostService",
        "rfs.v1.CheckpointService",
        "rfs.v1.RollbackService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        assert!(listed.out.lines().any(|line| line == service), "{service} is not in {listed:?}");
    }
    let described = call(&[], &["describe", "rfs.v1.CheckpointService"]);
    assert!(described.out.contains("rpc CreateCheckpoint"), "{described:?}");
    let health = call(&[], &["grpc.health.v1.Health/Check"]);
    assert!(health.out.contains("SERVING"), "{health:?}");

    let created =
        call(&["-d", r#"{"reason": "by grpcurl"}"#], &["rfs.v1.CheckpointService/CreateCheckpoint"]);
    assert_eq!(created.code, 0, "{created:?}");
    let name = created.json().expect("one document")["name"].as_str().expect("a name").to_owned();
    let watch = format!(r#"{{"name": "{name}"}}"#);
    let watched = call(&["-d", &watch], &["rfs.v1.CheckpointService/WatchCheckpoint"]);
    assert!(watched.out.contains("\"state\": \"COMPLETE\""), "{watched:?}");

    for host in &bed.hosts {
        host.deploy("v2", "ok");
    }
    let spec = format!(
        r#"{{"spec": {{"checkpoint": "{name}", "strategy": "GRADUAL", "waves": {{"canary_hosts": ["web-1"]}},
            "gate": {{"min_healthy_time": "0.2s"}}}}, "reason": "by grpcurl"}}"#
    );
    let started = call(&["-d", &spec], &["rfs.v1.RollbackService/CreateRollback"]);
    assert_eq!(started.code, 0, "{started:?}");
    let rollback = started.json().expect("one document")["name"].as_str().expect("a name").to_owned();
    let watched =
        call(&["-d", &format!(r#"{{"name": "{rollback}"}}"#)], &["rfs.v1.RollbackService/WatchRollback"]);
    assert!(watched.out.contains("\"outcome\": \"SUCCEEDED\""), "{watched:?}");

    let wrong = r#"{"spec": {"checkpoint": "checkpoints/nonsense"}}"#;
    let refused = call(&["-d", wrong], &["rfs.v1.RollbackService/CreateRollback"]);
    assert!(refused.err.contains("InvalidArgument"), "{refused:?}");
    assert!(refused.err.contains("spec.checkpoint"), "the details name the field: {refused:?}");

    let without = grpcurl(&tool, &bed, None, &[], &["list"]);
    assert_ne!(without.code, 0, "{without:?}");
    assert!(!without.out.contains("rfs.v1"), "{without:?}");
    let agent = grpcurl(&tool, &bed, Some("web-1"), &[], &["rfs.v1.HostService/ListHosts"]);
    assert!(agent.err.contains("PermissionDenied"), "{agent:?}");
}

#[test]
fn buf_speaks_to_it_over_the_newer_reflection() {
    let Some(tool) = tools::judge("buf") else {
        return skip("grpc_tools: buf", "buf is not installed (tests/run installs it with npm)");
    };
    let bed = Bed::started(1);
    let url = format!("https://localhost:{}", bed.address().port());
    let buf = |who: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(&tool);
        command.args(["curl", "--protocol", "grpc", "--cacert"]).arg(bed.path().join("ca.pem"));
        if let Some(who) = who {
            command.arg("--cert").arg(bed.path().join(format!("{who}.pem")));
            command.arg("--key").arg(bed.path().join(format!("{who}.key")));
        }
        run(command.args(arguments))
    };
    let listed = buf(Some("alice"), &["--list-services", &url]);
    assert!(listed.out.contains("rfs.v1.RollbackService"), "{listed:?}");
    let hosts = buf(Some("alice"), &[&format!("{url}/rfs.v1.HostService/ListHosts")]);
    let hosts: Value = hosts.json().unwrap_or_else(|| panic!("{hosts:?}"));
    assert_eq!(hosts["hosts"][0]["name"], "hosts/web-1", "{hosts}");
    assert_ne!(buf(None, &["--list-services", &url]).code, 0);
}
