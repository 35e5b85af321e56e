//! Types of this crate that a column of the database holds.

/// Stores a type in a column of the named SQL type. The type must derive `AsExpression` and `FromSqlRow`.
///
/// The first function borrows the value of the column. The second one checks a value that is read.
macro_rules! stored {
    ($type:ty: BigInt, $write:expr, $read:expr $(,)?) => {
        crate::column::stored!($type, BigInt, i64, i64, $write, $read);
    };
    ($type:ty: Text, $write:expr, $read:expr $(,)?) => {
        crate::column::stored!($type, Text, str, String, $write, $read);
    };
    ($type:ty: Binary, $write:expr, $read:expr $(,)?) => {
        crate::column::stored!($type, Binary, [u8], Vec<u8>, $write, $read);
    };
    ($type:ty, $sql:ident, $borrowed:ty, $owned:ty, $write:expr, $read:expr) => {
        impl<DB: diesel::backend::Backend> diesel::serialize::ToSql<diesel::sql_types::$sql, DB> for $type
        where
            $borrowed: diesel::serialize::ToSql<diesel::sql_types::$sql, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut diesel::serialize::Output<'b, '_, DB>) -> diesel::serialize::Result {
                let write: fn(&$type) -> &$borrowed = $write;
                diesel::serialize::ToSql::<diesel::sql_types::$sql, DB>::to_sql(write(self), out)
            }
        }

        impl<DB: diesel::backend::Backend> diesel::deserialize::FromSql<diesel::sql_types::$sql, DB> for $type
        where
            $owned: diesel::deserialize::FromSql<diesel::sql_types::$sql, DB>,
        {
            fn from_sql(value: DB::RawValue<'_>) -> diesel::deserialize::Result<$type> {
                let read: fn($owned) -> diesel::deserialize::Result<$type> = $read;
                read(diesel::deserialize::FromSql::<diesel::sql_types::$sql, DB>::from_sql(value)?)
            }
        }
    };
}

pub(crate) use stored;
