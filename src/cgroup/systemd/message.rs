//! One message of D-Bus as bytes. Pure.
//!
//! The crate zbus marshals values; without its default features that is all it does. Its connections
//! need an executor and threads, and carob has neither. Source: D-Bus Specification, *Message Format*.

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, LE, to_bytes};
use zbus::{ObjectPath, OwnedVariant, Signature, Type, Variant};

/// No answer of systemd comes near; what claims to be longer is no message.
pub(super) const LONGEST_BYTES: usize = 4 << 20;
/// What has to be read before the length of a message is known.
pub(super) const START_BYTES: usize = 16;

const PROTOCOL: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Byte order, kind, flags, version, length of the body, serial, fields.
type Header<V> = (u8, u8, u8, u8, u32, u32, Vec<(u8, V)>);

/// A method and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method<'a> {
    /// Nobody, on a connection without a bus.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// What is wrong with a message; for people.
pub(super) type Malformed = String;

/// What a field of the header says.
#[derive(Debug)]
enum Field<'a> {
    Value(Variant<'a>),
    /// The types of the arguments, one after the other. Not a [`enum@Variant`]: that has one type, and
    /// would write several as the tuple of them.
    Types(String),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Types(types) => {
                // Two members, as zbus takes a variant: the type of the value, and the value.
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", types)?;
                variant.end()
            }
        }
    }
}

/// The bytes of a call. `body` is a tuple of the arguments.
pub(super) fn call<B: Serialize + Type>(
    method: Method,
    serial: u32,
    body: &B,
) -> Result<Vec<u8>, Malformed> {
    let context = Context::new(LE, 0);
    // It starts at a multiple of 8, the largest alignment there is: as if at 0.
    let body_bytes = to_bytes(context, body).map_err(|e| e.to_string())?;
    let path = ObjectPath::try_from(method.path).map_err(|e| e.to_string())?;
    let mut fields = vec![
        (PATH, Field::Value(Variant::from(path))),
        (INTERFACE, Field::Value(Variant::from(method.interface))),
        (MEMBER, Field::Value(Variant::from(method.member))),
    ];
    if let Some(destination) = method.destination {
        fields.push((DESTINATION, Field::Value(Variant::from(destination))));
    }
    if *B::SIGNATURE != Signature::Unit {
        fields.push((SIGNATURE, Field::Types(B::SIGNATURE.to_string_no_parens())));
    }
    let length = u32::try_from(body_bytes.len()).or(Err("too long".to_owned()))?;
    let header: Header<Field> = (b'l', METHOD_CALL, 0, PROTOCOL, length, serial, fields);
    let mut message = to_bytes(context, &header).map_err(|e| e.to_string())?.to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(&body_bytes);
    Ok(message)
}

/// How long the message is that begins with these bytes.
pub(super) fn length(start: &[u8; START_BYTES]) -> Result<usize, Malformed> {
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        let number = match start[0] {
            b'B' => u32::from_be_bytes(bytes),
            _ => u32::from_le_bytes(bytes),
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    if !matches!(start[0], b'l' | b'B') || start[3] != PROTOCOL {
        return Err(format!("no message of D-Bus: it begins with {:?}", &start[..4]));
    }
    let (body, fields) = (number(4), number(12));
    let length = START_BYTES.saturating_add(fields).checked_next_multiple_of(8);
    match length.and_then(|length| length.checked_add(body)) {
        Some(length) if length <= LONGEST_BYTES => Ok(length),
        _ => Err(format!("a message with {body} and {fields} bytes, at most {LONGEST_BYTES}")),
    }
}

/// What has come in.
#[derive(Debug)]
pub(super) enum Received {
    /// The answer to the call with this serial.
    Return { to: u32, sender: String, body: Body },
    /// Instead of an answer.
    Error { name: String, text: String },
    /// A signal of this name. Anybody can send one: look at the sender.
    Signal { member: String, sender: String, body: Body },
    /// A call, or what a later version of the protocol has.
    Other,
}

/// The arguments of a message, still as bytes.
#[derive(Debug)]
pub(super) struct Body {
    data: Data<'static, 'static>,
    signature: Option<Signature>,
}

impl Body {
    /// The arguments as a tuple.
    pub(super) fn read<T: DeserializeOwned + Type>(&self) -> Result<T, Malformed> {
        let have = self.signature.as_ref().map(Signature::to_string_no_parens).unwrap_or_default();
        let want = T::SIGNATURE.to_string_no_parens();
        if have != want {
            return Err(format!("arguments of type {have:?}, not {want:?}"));
        }
        self.data.deserialize().map(|(value, _)| value).map_err(|e| e.to_string())
    }
}

/// Reads a whole message.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Received, Malformed> {
    let order = if bytes.first() == Some(&b'B') { BE } else { LE };
    let data = Data::new(bytes, Context::new(order, 0));
    let (header, size): (Header<OwnedVariant>, usize) =
        data.deserialize().map_err(|e| e.to_string())?;
    let (_, kind, _, _, length, _, fields) = header;
    let start = size.next_multiple_of(8);
    if start.checked_add(usize::try_from(length).unwrap_or(usize::MAX)) != Some(data.len()) {
        return Err(format!("{} bytes for a body of {length} at {start}", data.len()));
    }
    let text_of = |wanted: u8| {
        let field = fields.iter().find(|(code, _)| *code == wanted);
        match field.map(|(_, value)| &**value) {
            Some(Variant::Str(text)) => text.as_str().to_owned(),
            _ => String::new(),
        }
    };
    let answered = fields.iter().find_map(|(code, value)| match (code, &**value) {
        (&REPLY_SERIAL, Variant::U32(serial)) => Some(*serial),
        _ => None,
    });
    let signature = fields.iter().find_map(|(code, value)| match (code, &**value) {
        (&SIGNATURE, Variant::Signature(signature)) => Some(signature.clone()),
        _ => None,
    });
    let body = Body { data: data.slice(start..), signature };
    match (kind, answered) {
        (METHOD_RETURN, Some(to)) => Ok(Received::Return { to, sender: text_of(SENDER), body }),
        (ERROR, Some(_)) => {
            // By convention the first argument says what is wrong.
            let text = body.read::<(String,)>().map(|(text,)| text).unwrap_or_default();
            Ok(Received::Error { name: text_of(ERROR_NAME), text })
        }
        (SIGNAL, _) => {
            Ok(Received::Signal { member: text_of(MEMBER), sender: text_of(SENDER), body })
        }
        _ => Ok(Received::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let properties = vec![("Delegate".to_owned(), Variant::Bool(true))];
        let auxiliary: Vec<(String, Vec<(String, Variant)>)> = Vec::new();
        let method = Method {
            destination: Some("org.example"),
            path: "/org/example",
            interface: "org.example.Manager",
            member: "Start",
        };
        call(method, 7, &("a.scope", "replace", &properties, auxiliary)).unwrap()
    }

    #[test]
    fn a_call_has_the_types_of_its_arguments() {
        let bytes = sample();
        let types = b"\x01g\0\x10ssa(sv)a(sa(sv))\0";
        assert!(bytes.windows(types.len()).any(|window| window == types), "{bytes:?}");
        let start = bytes[..START_BYTES].try_into().unwrap();
        assert_eq!(length(&start).unwrap(), bytes.len());
        assert!(matches!(parse(bytes).unwrap(), Received::Other), "a call is nothing to receive");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let bytes = sample();
        let start: [u8; START_BYTES] = bytes[..START_BYTES].try_into().unwrap();
        let spoilt = |at: usize, value: u8| {
            let mut start = start;
            start[at] = value;
            length(&start).unwrap_err()
        };
        assert!(spoilt(0, b'x').contains("no message of D-Bus"));
        assert!(spoilt(3, 9).contains("no message of D-Bus"));
        assert!(spoilt(7, 0xff).contains("at most"));
        assert!(spoilt(15, 0xff).contains("at most"));
        for end in 0..bytes.len() {
            assert!(parse(bytes[..end].to_vec()).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn whatever_comes_is_an_error_at_worst() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut spoilt = bytes.clone();
                spoilt[at] = value;
                if let Ok(Received::Return { body, .. }) = parse(spoilt) {
                    let _whatever = body.read::<(String,)>();
                }
            }
        }
    }
}
