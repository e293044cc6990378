//! The files for programs and their schemas.

use serde_json::Value;

/// The schemas that are published with the product.
const REPORT: &str = include_str!("../../../docs/report.schema.json");
const SWEEP: &str = include_str!("../../../docs/sweep.schema.json");

/// Keywords that say nothing of what is valid.
const WORDS: [&str; 5] = ["$schema", "$defs", "title", "description", "format"];

/// Panics where a report does not keep to the schema, or the schema has a keyword unknown here. Keys
/// that the schema does not name are refused too.
pub fn assert_report(report: &Value) {
    assert_valid(report, REPORT, "report");
}

/// As [`assert_report`], for a sweep.
pub fn assert_sweep(sweep: &Value) {
    assert_valid(sweep, SWEEP, "sweep");
}

fn assert_valid(value: &Value, schema: &str, at: &str) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    if let Err(fault) = check(value, &schema, &schema, at) {
        panic!("{fault}");
    }
}

fn check(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let rules = schema.as_object().ok_or_else(|| format!("{at}: the schema is no object"))?;
    for (keyword, rule) in rules {
        let right = match keyword.as_str() {
            "$ref" => {
                let place = rule.as_str().unwrap().trim_start_matches('#');
                check(value, root.pointer(place).unwrap(), root, at)?;
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|t| is(value, t)),
                one => is(value, one),
            },
            "const" => value == rule,
            "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
            "anyOf" => matching(value, rule, root, at) >= 1,
            "oneOf" => matching(value, rule, root, at) == 1,
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, rule, root, &format!("{at}[{i}]"))?;
                }
                true
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let rule = rule.get(key).ok_or_else(|| format!("{at}: the schema does not know '{key}'"))?;
                    check(inner, rule, root, &format!("{at}.{key}"))?;
                }
                true
            }
            word if WORDS.contains(&word) => true,
            word => panic!("{at}: the schema has the keyword '{word}'"),
        };
        if !right {
            return Err(format!("{at}: {keyword} {rule} does not hold for {value}"));
        }
    }
    Ok(())
}

fn is(value: &Value, type_: &Value) -> bool {
    match type_.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("type {other}"),
    }
}

fn matching(value: &Value, schemas: &Value, root: &Value, at: &str) -> usize {
    schemas.as_array().unwrap().iter().filter(|schema| check(value, schema, root, at).is_ok()).count()
}

#[test]
fn the_published_schemas_are_those_of_the_program() {
    assert!(REPORT == onnx_unlearn::report::schema(), "docs/report.schema.json is out of date; run 'make schema'");
    assert!(SWEEP == onnx_unlearn::report::sweep::schema(), "docs/sweep.schema.json is out of date; run 'make schema'");
}

#[test]
fn the_check_finds_faults() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "a": {"type": ["integer", "null"], "minimum": 0},
            "b": {"$ref": "#/$defs/B"},
            "c": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"const": 1}]}},
        },
        "required": ["a"],
        "$defs": {"B": {"type": "boolean"}},
    });
    let right = |value: Value| check(&value, &schema, &schema, "x").is_ok();
    assert!(right(serde_json::json!({"a": 3, "b": true, "c": ["x", 1]})) && right(serde_json::json!({"a": null})));
    assert!(!right(serde_json::json!({})) && !right(serde_json::json!({"a": -1})) && !right(serde_json::json!([])));
    assert!(!right(serde_json::json!({"a": 1, "b": 0})) && !right(serde_json::json!({"a": 1, "c": [2]})));
    assert!(!right(serde_json::json!({"a": 1, "d": 0})) && !right(serde_json::json!({"a": 1.5})));
}
