//! The hand-written schemas of Kubernetes' own kinds against its types: the same fields of the same types.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::source::kind::Kind;
use crate::source::schema::{Schema, Type};

type Fields = BTreeMap<String, Type>;

/// A deserializer that answers every question and notes it: where which type was asked for.
struct Probe<'a> {
    path: String,
    kind: Kind,
    seen: &'a mut Fields,
}

impl Probe<'_> {
    fn note(&mut self, kind: Type) {
        self.seen.insert(self.path.clone(), kind);
    }
}

/// The fields of a struct, one after the other.
struct Each<'a> {
    probe: Probe<'a>,
    fields: std::slice::Iter<'static, &'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for Each<'_> {
    type Error = value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.field = field;
        seed.deserialize(value::StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let dot = if self.probe.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{}", self.probe.path, self.field);
        seed.deserialize(Probe { path, kind: self.probe.kind, seen: self.probe.seen })
    }
}

/// A list of one element.
struct One<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = value::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.note(Type::Object);
        visitor.visit_map(Each { probe: self, fields: fields.iter(), field: "" })
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::Object);
        visitor.visit_map(value::MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::Array);
        let path = format!("{}[]", self.path);
        visitor.visit_seq(One(Some(Probe { path, kind: self.kind, seen: self.seen })))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::String);
        match &*self.path {
            "apiVersion" => visitor.visit_str(&self.kind.api_version()),
            "kind" => visitor.visit_str(self.kind.name()),
            _ => visitor.visit_str("2026-01-31T12:00:00Z"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::Boolean);
        visitor.visit_bool(true)
    }

    fn deserialize_i32<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::Integer);
        visitor.visit_i32(1)
    }

    fn deserialize_i64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::Integer);
        visitor.visit_i64(1)
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note(Type::IntOrString);
        visitor.visit_i64(1)
    }

    fn is_human_readable(&self) -> bool {
        true
    }

    forward_to_deserialize_any! {
        i8 i16 u8 u16 u32 u64 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

fn of_type<T: for<'de> Deserialize<'de>>(kind: Kind) -> Fields {
    let mut seen = Fields::new();
    let probed = T::deserialize(Probe { path: String::new(), kind, seen: &mut seen });
    probed.map(drop).map_err(|error| value::Error::custom(format!("{}: {error}", kind.name()))).unwrap();
    seen
}

fn of_schema(schema: &Schema, path: &str, fields: &mut Fields) {
    fields.insert(path.to_owned(), schema.kind.unwrap());
    for (name, field) in &schema.properties {
        let dot = if path.is_empty() { "" } else { "." };
        of_schema(field, &format!("{path}{dot}{name}"), fields);
    }
    if let Some(items) = &schema.items {
        of_schema(items, &format!("{path}[]"), fields);
    }
}

#[test]
fn the_schemas_agree_with_the_types() {
    for (kind, mut types) in [
        (Kind::Service, of_type::<Service>(Kind::Service)),
        (Kind::EndpointSlice, of_type::<EndpointSlice>(Kind::EndpointSlice)),
        (Kind::Secret, of_type::<Secret>(Kind::Secret)),
        (Kind::ConfigMap, of_type::<ConfigMap>(Kind::ConfigMap)),
        (Kind::Namespace, of_type::<Namespace>(Kind::Namespace)),
    ] {
        let mut schema = Fields::new();
        of_schema(&kind.file().root, "", &mut schema);
        of_schema(Kind::metadata(), "metadata", &mut schema);
        // Read by itself, or not looked into.
        types.retain(|path, _| !["apiVersion", "kind"].contains(&&**path) && !path.starts_with("status"));
        let opaque: Vec<_> =
            schema.iter().filter(|(_, kind)| **kind == Type::Any).map(|(path, _)| path.clone()).collect();
        types.retain(|path, _| !opaque.iter().any(|opaque| path.starts_with(opaque)));
        schema.retain(|_, kind| *kind != Type::Any);
        assert_eq!(schema, types, "{}", kind.name());
    }
}
