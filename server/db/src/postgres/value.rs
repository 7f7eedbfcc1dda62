//! Values on their way to the server and back, in its binary form.

use std::error::Error;

use bytes::BufMut as _;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use crate::{DbError, Row, Value};

/// The type that a parameter is declared with. SQLite's integers have 64 bits wherever they stand, so
/// ours have as well; what NULL stands for is left to the server.
pub(super) fn declared(value: &Value) -> Type {
    match value {
        Value::Null => Type::UNKNOWN,
        Value::Int(_) => Type::INT8,
        Value::Real(_) => Type::FLOAT8,
        Value::Text(_) => Type::TEXT,
        Value::Blob(_) => Type::BYTEA,
    }
}

/// Whether a parameter that was prepared as `wanted` takes this value.
pub(super) fn fits(value: &Value, wanted: &Type) -> bool {
    match value {
        Value::Null => true,
        Value::Int(_) => matches!(
            *wanted,
            Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL | Type::FLOAT8
        ),
        Value::Real(_) => *wanted == Type::FLOAT8,
        Value::Text(_) => matches!(*wanted, Type::TEXT | Type::VARCHAR | Type::NAME),
        Value::Blob(_) => *wanted == Type::BYTEA,
    }
}

/// A parameter. Its content shows in no debug text.
pub(super) struct Param<'a>(pub(super) &'a Value);

impl std::fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.kind())
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let wrong = || format!("a parameter is {}, wanted {ty}", self.0.kind());
        if !fits(self.0, ty) {
            return Err(wrong().into());
        }
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Int(v) => match *ty {
                Type::INT4 => out.put_i32(i32::try_from(*v).map_err(|_| wrong())?),
                Type::INT2 => out.put_i16(i16::try_from(*v).map_err(|_| wrong())?),
                Type::BOOL => out.put_u8(u8::from(*v != 0)),
                Type::FLOAT8 => out.put_f64(*v as f64),
                _ => out.put_i64(*v),
            },
            Value::Real(v) => out.put_f64(*v),
            Value::Text(v) => out.put_slice(v.as_bytes()),
            Value::Blob(v) => out.put_slice(v),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A column as it came.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// An owned row.
pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row, DbError> {
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let raw: Raw<'_> = row
            .try_get(index)
            .map_err(|e| DbError::Other(format!("column {index}: {e}")))?;
        values.push(match raw.0 {
            None => Value::Null,
            Some(bytes) => decode(column.type_(), bytes).ok_or_else(|| {
                DbError::Other(format!(
                    "column {index} has the type {}, which has no counterpart here",
                    column.type_()
                ))
            })?,
        });
    }
    Ok(Row(values))
}

fn decode(ty: &Type, bytes: &[u8]) -> Option<Value> {
    Some(match *ty {
        Type::INT8 => Value::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::INT4 => Value::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::INT2 => Value::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::OID => Value::Int(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::BOOL => Value::Int(i64::from(*bytes.first()? != 0)),
        Type::FLOAT8 => Value::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
        Type::FLOAT4 => Value::Real(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            Value::Text(String::from_utf8(bytes.to_vec()).ok()?)
        }
        Type::BYTEA => Value::Blob(bytes.to_vec()),
        Type::NUMERIC => numeric(bytes)?,
        Type::VOID => Value::Null,
        _ => return None,
    })
}

/// Sums of integers come as NUMERIC: groups of four decimal digits and the weight of the first one.
fn numeric(bytes: &[u8]) -> Option<Value> {
    const NEGATIVE: u16 = 0x4000;
    let mut words = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let count = usize::from(words.next()?);
    let weight = i32::from(words.next()?.cast_signed());
    let sign = words.next()?;
    let _scale = words.next()?;
    if sign != 0 && sign != NEGATIVE {
        // Not a number, or infinite.
        return Some(Value::Null);
    }
    let digits: Vec<u16> = words.collect();
    if digits.len() != count {
        return None;
    }
    let mut whole: i128 = 0;
    let mut real = 0.0_f64;
    let mut fraction = false;
    let mut fits = weight < 8;
    for position in 0..(weight.max(-1) + 1).max(i32::try_from(count).ok()?) {
        let digit = digits
            .get(usize::try_from(position).ok()?)
            .copied()
            .unwrap_or(0);
        real += f64::from(digit) * 10_000_f64.powi(weight - position);
        if position <= weight && fits {
            whole = whole * 10_000 + i128::from(digit);
        } else if digit != 0 {
            fraction = true;
        }
    }
    if sign == NEGATIVE {
        (whole, real) = (-whole, -real);
    }
    fits &= !fraction;
    Some(match i64::try_from(whole) {
        Ok(whole) if fits => Value::Int(whole),
        _ => Value::Real(real),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_precision_are_read() {
        let make = |weight: i16, sign: u16, digits: &[u16]| {
            let mut bytes = Vec::new();
            bytes.extend((digits.len() as u16).to_be_bytes());
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(0_u16.to_be_bytes());
            bytes.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
            bytes
        };
        for (bytes, expected) in [
            (make(0, 0, &[]), Value::Int(0)),
            (make(0, 0, &[42]), Value::Int(42)),
            (make(1, 0x4000, &[1, 2]), Value::Int(-10_002)),
            (make(2, 0, &[1]), Value::Int(100_000_000)),
            (make(0, 0, &[2, 5000]), Value::Real(2.5)),
            (make(-1, 0, &[5000]), Value::Real(0.5)),
            (make(5, 0, &[1]), Value::Real(1e20)),
            (
                make(4, 0, &[922, 3372, 368, 5477, 5807]),
                Value::Int(i64::MAX),
            ),
            (make(0, 0xC000, &[]), Value::Null),
        ] {
            assert_eq!(numeric(&bytes), Some(expected));
        }
        assert_eq!(numeric(&[0, 1]), None);
    }
}
