//! Rule files as they are written. A key that is not known or not there spoils no other: all that is wrong with a file can
//! be told at once.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use common::config::unknown_key;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde::de::IgnoredAny;
use serde::de::IntoDeserializer as _;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::forward_to_deserialize_any;
use serde_saphyr::Spanned;

/// A value and its place.
pub(super) type Text = Spanned<String>;

#[derive(Default, Deserialize)]
pub(super) struct RawFile {
    pub groups: Option<Vec<Spanned<Sieved<RawGroup>>>>,
}

#[derive(Deserialize)]
pub(super) struct RawGroup {
    pub name: Option<Text>,
    pub interval: Option<Text>,
    pub query_offset: Option<Text>,
    #[serde(default)]
    pub limit: usize,
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    pub rules: Option<Vec<Spanned<Sieved<RawRule>>>>,
}

#[derive(Deserialize)]
pub(super) struct RawRule {
    pub alert: Option<Text>,
    pub record: Option<Text>,
    pub expr: Option<Text>,
    #[serde(rename = "for")]
    pub hold_for: Option<Text>,
    pub keep_firing_for: Option<Text>,
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    #[serde(default)]
    pub annotations: BTreeMap<String, Text>,
}

/// What the known keys of a map say, and those that are not known: each with what to say of it.
#[derive(Default)]
pub(super) struct Sieved<T> {
    pub known: T,
    pub unknown: Vec<Spanned<String>>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sieved<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Sieve(PhantomData))
    }
}

struct Sieve<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Sieve<T> {
    type Value = Sieved<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("keys and values")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Sieved<T>, M::Error> {
        let mut unknown = Vec::new();
        let known = T::deserialize(Struct { map, unknown: &mut unknown })?;
        Ok(Sieved { known, unknown })
    }
}

struct Struct<'a, M> {
    map: M,
    unknown: &'a mut Vec<Text>,
}

impl<'de, M: MapAccess<'de>> Deserializer<'de> for Struct<'_, M> {
    type Error = M::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, M::Error> {
        visitor.visit_map(self.map)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, M::Error> {
        visitor.visit_map(Keys { map: self.map, known, unknown: self.unknown })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Keys<'a, M> {
    map: M,
    known: &'static [&'static str],
    unknown: &'a mut Vec<Text>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Keys<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        while let Some(mut key) = self.map.next_key::<Text>()? {
            if self.known.contains(&key.value.as_str()) {
                return seed.deserialize(key.value.into_deserializer()).map(Some);
            }
            self.map.next_value::<IgnoredAny>()?;
            key.value = unknown_key(&key.value, self.known);
            self.unknown.push(key);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}
