//! Lists, as the predecessor's clients know them: `limit`, `offset`, `count`, links to the next and the
//! previous part; and `fields`, which leaves only some keys of what is answered.

use actix_web::HttpRequest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::auth::client::SCHEME_HEADER;
use crate::store::Page;

/// The most rows of one part.
const MOST: u32 = 1000;

/// Which part of a list. Numbers that make no sense are passed over, as the predecessor did.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// At most so many rows; 100, and never more than 1000.
    limit: Option<String>,
    /// After so many.
    offset: Option<String>,
    /// Only these keys of each row, separated by commas; all of them where it is empty.
    fields: Option<String>,
}

/// How much of one row.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FieldsQuery {
    /// Only these keys, separated by commas; all of them where it is empty.
    fields: Option<String>,
}

impl FieldsQuery {
    /// The row with the wanted keys only.
    pub(crate) fn select(&self, row: &impl Serialize) -> Value {
        select(self.fields.as_deref(), row)
    }
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Part<T> {
    /// Rows in all parts.
    pub(crate) count: i64,
    /// Where the next part is.
    pub(crate) next: Option<String>,
    /// Where the previous part is.
    pub(crate) previous: Option<String>,
    /// The rows of this part.
    pub(crate) results: Vec<T>,
}

impl PageQuery {
    /// As the store takes it.
    pub(crate) fn page(&self) -> Page {
        let number =
            |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u32>().ok());
        Page {
            limit: number(&self.limit)
                .filter(|limit| *limit > 0)
                .unwrap_or(100)
                .min(MOST),
            offset: number(&self.offset)
                .unwrap_or(0)
                .min(i32::MAX.unsigned_abs()),
        }
    }

    /// The answer with these rows.
    pub(crate) fn part<T: Serialize>(
        &self,
        request: &HttpRequest,
        count: i64,
        rows: &[T],
    ) -> Value {
        let Page { limit, offset } = self.page();
        let after = u64::from(offset) + u64::from(limit);
        let has_more = u64::try_from(count).unwrap_or_default() > after;
        let part = Part {
            count,
            next: has_more.then(|| link(request, limit, after)),
            previous: (offset > 0)
                .then(|| link(request, limit, offset.saturating_sub(limit).into())),
            results: rows
                .iter()
                .map(|row| select(self.fields.as_deref(), row))
                .collect(),
        };
        serde_json::to_value(part).expect("rows are JSON")
    }
}

/// One row with the wanted keys only; names that it does not have mean nothing.
fn select(fields: Option<&str>, row: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(row).expect("rows are JSON");
    let fields = fields.filter(|fields| !fields.is_empty());
    if let (Some(fields), Value::Object(map)) = (fields, &mut value) {
        map.retain(|name, _| fields.split(',').any(|field| field.trim() == name));
    }
    value
}

/// The address of another part, with the query as it is otherwise.
fn link(request: &HttpRequest, limit: u32, offset: u64) -> String {
    let kept = request.query_string().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "limit" && name != "offset"
    });
    let query: Vec<_> = kept
        .map(str::to_owned)
        .chain([format!("limit={limit}"), format!("offset={offset}")])
        .collect();
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    // a link to nowhere is all that somebody gains who makes the scheme up
    let scheme = header(SCHEME_HEADER)
        .filter(|scheme| *scheme == "https")
        .unwrap_or("http");
    let host = header("host").unwrap_or_default();
    format!("{scheme}://{host}{}?{}", request.path(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde_json::json;

    use super::*;

    fn query(text: &str) -> PageQuery {
        actix_web::web::Query::<PageQuery>::from_query(text)
            .unwrap()
            .into_inner()
    }

    #[test]
    fn numbers_that_make_no_sense_are_passed_over_and_there_is_a_most() {
        for (text, limit, offset) in [
            ("", 100, 0),
            ("limit=5&offset=7", 5, 7),
            ("limit=0", 100, 0),
            ("limit=-1&offset=x", 100, 0),
            ("limit=99999", 1000, 0),
        ] {
            assert_eq!(query(text).page(), Page { limit, offset }, "{text}");
        }
    }

    #[test]
    fn links_keep_the_rest_of_the_query() {
        let text = "limit=2&enabled=true&offset=2&fields=id";
        let request = TestRequest::with_uri(&format!("/api/proxy/nodes?{text}"))
            .insert_header(("host", "h:8000"))
            .to_http_request();
        let part = query(text).part(&request, 5, &[json!({"id": 1, "name": "a"})]);
        assert_eq!(
            part["next"],
            "http://h:8000/api/proxy/nodes?enabled=true&fields=id&limit=2&offset=4"
        );
        assert_eq!(
            part["previous"],
            "http://h:8000/api/proxy/nodes?enabled=true&fields=id&limit=2&offset=0"
        );
        assert_eq!(part["results"], json!([{"id": 1}]));
    }
}
