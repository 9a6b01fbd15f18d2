//! The matrix: types with odd values, transforms.

/// A value in JSON and as both readers show it.
#[derive(Debug)]
pub struct Sample {
    pub json: &'static str,
    pub shown: &'static str,
    /// The transform that has no partition for it, if any.
    pub refused_by: &'static str,
}

/// A type.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub title: &'static str,
    /// The property's lines in the contract, without its name.
    pub property: &'static str,
    pub samples: &'static [Sample],
    /// How SQL shows the column `v` as text.
    pub sql: &'static str,
    /// How Python shows a value `v` as text.
    pub python: &'static str,
}

const fn s(json: &'static str, shown: &'static str) -> Sample {
    Sample { json, shown, refused_by: "" }
}

const fn no_floor(json: &'static str, shown: &'static str) -> Sample {
    Sample { json, shown, refused_by: "truncate" }
}

pub const TRANSFORMS: &[Option<&str>] = &[
    None,
    Some("identity"),
    Some("year"),
    Some("month"),
    Some("day"),
    Some("hour"),
    Some("bucket[7]"),
    Some("bucket[3000000000]"),
    Some("truncate[3]"),
    Some("truncate[3000000000]"),
];

pub const TYPES: &[Cell] = &[
    Cell {
        title: "boolean",
        property: "logicalType: boolean",
        samples: &[s("true", "true"), s("false", "false")],
        sql: "cast(v as varchar)",
        python: "str(v).lower()",
    },
    Cell {
        title: "int",
        property: "logicalType: integer, logicalTypeOptions: {format: i32}",
        samples: &[s("-1", "-1"), s("2147483647", "2147483647"), no_floor("-2147483648", "-2147483648")],
        sql: "cast(v as varchar)",
        python: "str(v)",
    },
    Cell {
        title: "long",
        property: "logicalType: integer",
        samples: &[
            s("9007199254740993", "9007199254740993"),
            s("9223372036854775807", "9223372036854775807"),
            s("-1", "-1"),
            no_floor("-9223372036854775808", "-9223372036854775808"),
        ],
        sql: "cast(v as varchar)",
        python: "str(v)",
    },
    Cell {
        title: "unsigned",
        property: "logicalType: integer, logicalTypeOptions: {format: u64}",
        samples: &[s("18446744073709551615", "18446744073709551615"), s("0", "0")],
        sql: "cast(v as varchar)",
        python: "str(v)",
    },
    Cell {
        title: "float",
        property: "logicalType: number, logicalTypeOptions: {format: f32}",
        samples: &[s("0.1", "0.1"), s("-0.5", "-0.5")],
        sql: "cast(v as varchar)",
        python: "str(round(v, 6))",
    },
    Cell {
        title: "double",
        property: "logicalType: number",
        samples: &[s("0.1", "0.1"), s("-2.5", "-2.5"), s("123456.789", "123456.789")],
        sql: "cast(v as varchar)",
        python: "repr(v)",
    },
    Cell {
        title: "decimal",
        property: "logicalType: number, physicalType: 'decimal(12,2)'",
        samples: &[
            s("100.50", "100.50"),
            s("\"-0.01\"", "-0.01"),
            s("9999999999.99", "9999999999.99"),
            s("-9999999999.99", "-9999999999.99"),
        ],
        sql: "cast(v as varchar)",
        python: "str(v)",
    },
    Cell {
        title: "wide decimal",
        property: "logicalType: number, physicalType: 'decimal(38,18)'",
        samples: &[
            s("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
            s("\"-0.000000000000000001\"", "-0.000000000000000001"),
        ],
        sql: "cast(v as varchar)",
        python: "format(v, 'f')",
    },
    Cell {
        title: "date",
        property: "logicalType: date",
        samples: &[
            s("\"0001-01-01\"", "0001-01-01"),
            s("\"1969-12-31\"", "1969-12-31"),
            s("\"2000-02-29\"", "2000-02-29"),
            s("\"9999-12-31\"", "9999-12-31"),
        ],
        sql: "cast(v as varchar)",
        python: "v.isoformat()",
    },
    Cell {
        title: "time",
        property: "logicalType: time",
        samples: &[s("\"00:00:00\"", "0"), s("\"23:59:59.999999\"", "86399999999")],
        sql: "cast(arrow_cast(v, 'Int64') as varchar)",
        python: "str(((v.hour * 60 + v.minute) * 60 + v.second) * 1000000 + v.microsecond)",
    },
    Cell {
        title: "timestamp",
        property: "logicalType: timestamp, logicalTypeOptions: {timezone: false}",
        samples: &[
            s("\"1969-12-31T23:59:59.999\"", "-1000"),
            s("\"0001-01-01T00:00:00.5\"", "-62135596799500000"),
            s("\"9999-12-31T23:59:59.999999\"", "253402300799999999"),
        ],
        sql: "cast(arrow_cast(v, 'Int64') as varchar)",
        python: "str((v - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1))",
    },
    Cell {
        title: "timestamptz",
        property: "logicalType: timestamp",
        samples: &[
            s("\"1969-12-31T23:59:59.999Z\"", "-1000"),
            s("\"1969-12-31T23:59:59.999999+01:00\"", "-3600000001"),
            s("\"0001-01-01T00:00:00.5Z\"", "-62135596799500000"),
            s("\"9999-12-31T23:59:59.999999Z\"", "253402300799999999"),
        ],
        sql: "cast(arrow_cast(v, 'Int64') as varchar)",
        python: "str((v - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1))",
    },
    Cell {
        title: "string",
        property: "logicalType: string",
        samples: &[
            s("\"\\ud842\\udfb7\\u91ce\"", "\u{20bb7}\u{91ce}"),
            s("\"\\ud83c\\udff4\\udb40\\udc67\"", "\u{1f3f4}\u{e0067}"),
            s("\"a/b=c\"", "a/b=c"),
            s("\"\"", ""),
        ],
        sql: "v",
        python: "v",
    },
    Cell {
        title: "uuid",
        property: "logicalType: string, physicalType: uuid",
        samples: &[
            s("\"6f9619ff-8b86-d011-b42d-00c04fc964ff\"", "6f9619ff8b86d011b42d00c04fc964ff"),
            s("\"ffffffff-ffff-ffff-ffff-ffffffffffff\"", "ffffffffffffffffffffffffffffffff"),
        ],
        sql: "encode(arrow_cast(v, 'Binary'), 'hex')",
        python: "(v.hex if isinstance(v, uuid.UUID) else bytes(v).hex())",
    },
    Cell {
        title: "binary",
        property: "logicalType: string, physicalType: binary",
        samples: &[s("\"AP+A\"", "00ff80"), s("\"AAECAwQ=\"", "0001020304")],
        sql: "encode(arrow_cast(v, 'Binary'), 'hex')",
        python: "v.hex()",
    },
    Cell {
        title: "object",
        property: "logicalType: object, properties: [{name: x, logicalType: integer}]",
        samples: &[s("{\"x\":9007199254740993}", "9007199254740993")],
        sql: "cast(v['x'] as varchar)",
        python: "str(v['x'])",
    },
    Cell {
        title: "array",
        property: "logicalType: array, items: {logicalType: string}",
        samples: &[s("[\"\\ud842\\udfb7\",\"b\"]", "\u{20bb7},b")],
        sql: "array_to_string(v, ',')",
        python: "','.join(v)",
    },
    Cell {
        title: "map of text",
        property: "logicalType: map, map: {key: {logicalType: string}, value: {logicalType: integer}}",
        samples: &[s("{\"k\":5}", "k=5")],
        sql: "array_to_string(map_keys(v), ',') || '=' || array_to_string(map_values(v), ',')",
        python: "'%s=%s' % list(v)[0]",
    },
    Cell {
        title: "map of numbers",
        property: "logicalType: map, map: {key: {logicalType: integer}, value: {logicalType: string}}",
        samples: &[s("{\"-7\":\"a\"}", "-7=a"), s("[{\"key\":8,\"value\":\"b\"}]", "8=b")],
        sql: "array_to_string(map_keys(v), ',') || '=' || array_to_string(map_values(v), ',')",
        python: "'%s=%s' % list(v)[0]",
    },
];

/// A contract of one column `v` beside an `id`.
pub fn document(name: &str, format: &str, cell: &Cell, transform: Option<&str>) -> String {
    let partition = transform.map_or_else(String::new, |transform| {
        format!(
            ", partitioned: true, partitionKeyPosition: 1, \
             customProperties: [{{property: partitionTransform, value: '{transform}'}}]"
        )
    });
    format!(
        "apiVersion: v3.2.0\nkind: DataContract\nid: urn:test:{name}\nversion: 1.0.0\nstatus: active\ndomain: testing\n\
         dataProduct: {name}\nservers:\n  - {{server: mesh, type: kafka, host: 'mesh:9092', format: {format}}}\n\
         schema:\n  - name: {name}\n    physicalName: testing.{name}.v1\n    physicalType: topic\n    logicalType: object\n\
         \x20   properties:\n      - {{name: id, logicalType: integer, required: true}}\n      - {{name: v, {}{partition}}}\n",
        cell.property
    )
}
