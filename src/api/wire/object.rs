//! Objects that are objects. What serde derives for a struct also takes a list of its fields' values, and so a body that no
//! document allows.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that was written as an object.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Reads a field that is an object.
pub fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(decoder: D) -> Result<T, D::Error> {
    Object::deserialize(decoder).map(|it| it.0)
}

/// Reads a field that is an object or `null`.
pub fn maybe<'de, T: Deserialize<'de>, D: Deserializer<'de>>(decoder: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(decoder)?.map(|it| it.0))
}

/// Reads a field that is a list of objects.
pub fn each<'de, T: Deserialize<'de>, D: Deserializer<'de>>(decoder: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(decoder)?.into_iter().map(|it| it.0).collect())
}
