//! The API's documentation: `/api/schema`, made from the handlers themselves, `/swagger`, and a page
//! to read at `/redoc`. All of it comes from the binary.

mod complete;
mod page;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, web};
use aivonx_shared::fleet_doc::as_yaml;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// A page that loads what it needs from here and from nowhere else.
const OWN_ALONE: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";

/// The document in the forms it is asked for.
pub(crate) struct Schema {
    json: String,
    yaml: String,
    page: String,
    methods: complete::Methods,
}

impl Schema {
    /// Takes what the routes told of themselves and adds what is said once for all of them.
    pub(crate) fn of(api: OpenApi) -> Self {
        let mut tree =
            serde_json::to_value(introduced(api)).expect("a document of plain values is JSON");
        complete::complete(&mut tree);
        let json = format!("{tree:#}");
        Self {
            page: page::render(&tree),
            yaml: as_yaml(&json).expect("JSON is YAML"),
            methods: complete::methods(&tree),
            json,
        }
    }
}

impl Schema {
    /// What `Allow` says of a path, by its pattern: its methods, or GET for what is not of the API.
    pub(crate) fn allowed(&self, pattern: &str) -> String {
        let methods = self.methods.get(pattern);
        methods.map_or_else(|| "GET".to_owned(), |methods| methods.join(", "))
    }

    /// The document in YAML.
    pub(crate) fn into_yaml(self) -> String {
        self.yaml
    }
}

fn introduced(mut api: OpenApi) -> OpenApi {
    api.info = InfoBuilder::new()
        .title("aivonx control plane")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Nodes, users, keys and settings of a fleet of Ollama servers. Log in at /api/account/login, \
             then send the access token as `Authorization: Bearer …`; scripts use a personal access token \
             in its place.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").build()))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    components.add_security_scheme(
        "session",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("aivonx_session"))),
    );
    api
}

/// Adds the routes.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/schema", web::get().to(schema))
        .route("/redoc", web::get().to(redoc))
        .route("/swagger", web::get().to(to_swagger))
        .service(swagger());
}

/// Swagger UI, which would load its badge from elsewhere if it were let.
fn swagger() -> impl HttpServiceFactory {
    let config = Config::from("/api/schema?format=json").validator_url("none");
    web::scope("/swagger")
        .wrap(DefaultHeaders::new().add((header::CONTENT_SECURITY_POLICY, OWN_ALONE)))
        .service(SwaggerUi::new("/{_:.*}").config(config))
}

/// YAML, as the predecessor; JSON for who asks for it.
async fn schema(request: HttpRequest, schema: web::Data<Schema>) -> HttpResponse {
    let query = request.query_string();
    let asks = |text: &str| {
        let accept = request.headers().get(header::ACCEPT);
        accept
            .and_then(|value| value.to_str().ok())
            .is_some_and(|accept| accept.contains(text))
    };
    let wants_json = match query
        .split('&')
        .find_map(|pair| pair.strip_prefix("format="))
    {
        Some(format) => format == "json",
        None => asks("json") && !asks("yaml"),
    };
    if wants_json {
        let body = schema.json.clone();
        HttpResponse::Ok()
            .content_type("application/vnd.oai.openapi+json; charset=utf-8")
            .body(body)
    } else {
        let body = schema.yaml.clone();
        HttpResponse::Ok()
            .content_type("application/vnd.oai.openapi; charset=utf-8")
            .body(body)
    }
}

async fn redoc(schema: web::Data<Schema>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ))
        .body(schema.page.clone())
}

async fn to_swagger() -> HttpResponse {
    HttpResponse::MovedPermanently()
        .insert_header((header::LOCATION, "/swagger/"))
        .finish()
}
