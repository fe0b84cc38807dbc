//! Messages as JSON, through the descriptors that reflection serves, so that no field can be forgotten.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, SerializeOptions,
};
use serde_json::Value;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(rfs_proto::DESCRIPTORS).expect("our own descriptors decode"));

/// Writes `message` with the field names of its `.proto` file; fields without a value appear with their zero, and values
/// of enums without the name of their enum.
pub(super) fn to_json<M: Name>(message: &M) -> Value {
    let descriptor = POOL.get_message_by_name(&M::full_name()).expect("every message of ours is described");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("a message is what its descriptor says");
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let json = dynamic.serialize_with_options(serde_json::value::Serializer, &options);
    let mut json = json.expect("every value has a form in JSON");
    shorten(&dynamic.descriptor(), &mut json);
    json
}

/// Takes the names of enums off their values: `HEALTH_GOOD` is `GOOD`.
fn shorten(message: &MessageDescriptor, json: &mut Value) {
    let Value::Object(fields) = json else { return };
    for field in message.fields() {
        let Some(value) = fields.get_mut(field.name()) else { continue };
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| shorten_value(&field.kind(), value)),
            // The values in our maps are neither enums nor messages that have any.
            Value::Object(_) if field.is_map() => {}
            value => shorten_value(&field.kind(), value),
        }
    }
}

fn shorten_value(kind: &Kind, value: &mut Value) {
    match (kind, value) {
        (Kind::Message(message), value) => shorten(message, value),
        (Kind::Enum(of), Value::String(name)) => {
            let short = name.strip_prefix(&of.name().to_uppercase()).and_then(|rest| rest.strip_prefix('_'));
            if let Some(short) = short.map(str::to_owned) {
                *name = short;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rfs_proto::v1::{self, rollback};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_written_with_the_names_of_its_proto_file() {
        let rollback = v1::Rollback {
            name: "rollbacks/1".into(),
            state: rollback::State::Finished.into(),
            outcome: rollback::Outcome::Succeeded.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_764_000_000, nanos: 5_000_000 }),
            waves: vec![v1::Wave {
                hosts: vec![v1::HostProgress {
                    host: "web-1".into(),
                    bytes: 1 << 60,
                    health: v1::Health::Bad.into(),
                    downtime: Some(prost_types::Duration { seconds: 0, nanos: 250_000_000 }),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let json = to_json(&rollback);
        assert_eq!(json["state"], "FINISHED");
        assert_eq!(json["outcome"], "SUCCEEDED");
        assert_eq!(json["create_time"], "2025-11-24T16:00:00.005Z");
        assert_eq!(json["undo_of"], "", "a field without a value is there");
        let host = &json["waves"][0]["hosts"][0];
        assert_eq!(host["downtime"], "0.250s");
        assert_eq!(host["bytes"], json!(1_u64 << 60), "a number is a number");
        assert_eq!(host["state"], "UNSPECIFIED");
        assert_eq!(host["health"], "BAD", "not HEALTH_BAD");
    }
}
