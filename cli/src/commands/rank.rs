//! `unimodel rank TASK`

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Map, Value, json};
use unimodel_model::bundle::files;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::schema::Schema;
use unimodel_model::store::Store;

use crate::local::http::ask;
use crate::local::place::PlaceArgs;
use crate::output::{self, Format, table};
use crate::store::version_cache;

const EXAMPLES: &str = "\
Examples:
  unimodel rank search --context query=\"teh matrx\" --limit 5
  unimodel rank related --context source_item=50 --explain
  unimodel rank category --context user_id=7 --context history=50,172 --select genres=Sci-Fi --output json";

/// Arguments of `unimodel rank`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The task
    task: String,
    /// An element of the context; lists are separated by commas
    #[arg(long, value_name = "ELEMENT=VALUE")]
    context: Vec<String>,
    /// Rank only the items with that value of an attribute
    #[arg(long, value_name = "ATTRIBUTE=VALUE")]
    select: Vec<String>,
    /// The most items
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    limit: u32,
    /// Say who answered, by what, and in which time
    #[arg(long)]
    explain: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Asks the gateway and prints the answer with titles.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let up = args.place.place()?.up()?;
    let description = describe(up.gateway, &args.task).await?;
    let mut candidates = json!({"all": true});
    if !args.select.is_empty() {
        candidates = json!({"select": members(&args.select, |_, value| json!([value]))?});
    }
    let context = members(&args.context, |element, value| typed(&description, element, value))?;
    let body = json!({"context": context, "candidates": candidates, "limit": args.limit});
    let begun = Instant::now();
    let path = format!("/v1/tasks/{}:rank", args.task);
    let (status, answer) = ask(up.gateway, Method::POST, &path, body.to_string().into_bytes()).await?;
    let took = begun.elapsed();
    let mut answer: Value = serde_json::from_slice(&answer).with_context(|| format!("status {status} without JSON"))?;
    if status != 200 {
        let detail = answer["detail"].as_str().or(answer["title"].as_str()).unwrap_or("no reason given");
        bail!("{}: {detail}", args.task);
    }
    // Of a version that is gone from the store there are no titles.
    let catalogue = read_catalogue(&up.store, answer["modelVersion"].as_str().unwrap_or_default()).await.ok();
    let title = |id: &str| catalogue.as_ref().and_then(|items| Some(items.title()?.get(items.find(id)?)?.to_owned()));
    for item in answer["items"].as_array_mut().into_iter().flatten() {
        if let Some(title) = item["id"].as_str().and_then(title) {
            item["title"] = title.into();
        }
    }
    let endpoints: Vec<&str> = up
        .servers
        .iter()
        .filter(|server| server.task == args.task && server.ready)
        .map(|server| server.name.as_str())
        .collect();
    if args.output == Format::Json {
        if args.explain {
            answer["explain"] = json!({"seconds": took.as_secs_f64(), "servers": endpoints, "gateway": up.gateway});
        }
        return output::print_json(&answer);
    }
    let mut rows = table(&["ID", ">SCORE", "TITLE"]);
    for item in answer["items"].as_array().into_iter().flatten() {
        let text = |name: &str| item[name].as_str().unwrap_or("-").to_owned();
        rows.add_row([text("id"), format!("{:.3}", item["score"].as_f64().unwrap_or(f64::NAN)), text("title")]);
    }
    output::print(rows)?;
    if args.explain {
        explain(&answer, &endpoints, took)?;
    }
    Ok(())
}

fn explain(answer: &Value, endpoints: &[&str], took: std::time::Duration) -> anyhow::Result<()> {
    let text = |name: &str| answer[name].as_str().unwrap_or("-").to_owned();
    output::print(format_args!("\nversion   {} (data until {})", text("modelVersion"), text("dataTime")))?;
    let imputed = answer["imputed"].as_array().into_iter().flatten();
    let imputed =
        imputed.map(|i| format!("{} ({})", i["element"].as_str().unwrap_or("-"), i["source"].as_str().unwrap_or("-")));
    output::print(format_args!("imputed   {}", imputed.collect::<Vec<_>>().join(", ")))?;
    let fallback = &answer["fallback"];
    let fallback = if fallback.is_null() { "none".to_owned() } else { fallback.to_string() };
    output::print(format_args!("fallback  {fallback}"))?;
    output::print(format_args!("servers   {}", endpoints.join(", ")))?;
    output::print(format_args!("time      {:.1} ms", took.as_secs_f64() * 1e3))
}

/// What the gateway says of the task.
async fn describe(gateway: SocketAddr, task: &str) -> anyhow::Result<Value> {
    let (_, answer) = ask(gateway, Method::GET, "/v1/tasks", Vec::new()).await?;
    let answer: Value = serde_json::from_slice(&answer).context("the gateway's tasks are no JSON")?;
    let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = tasks.iter().filter_map(|task| task["name"].as_str()).collect();
    match tasks.iter().find(|described| described["name"] == task) {
        Some(described) => Ok(described.clone()),
        None => bail!("there is no task `{task}`; there are {}", names.join(", ")),
    }
}

fn members(pairs: &[String], value: impl Fn(&str, &str) -> Value) -> anyhow::Result<Map<String, Value>> {
    pairs
        .iter()
        .map(|pair| {
            let (name, text) =
                pair.split_once('=').with_context(|| format!("`{pair}` has no `=`; write NAME=VALUE"))?;
            Ok((name.to_owned(), value(name, text)))
        })
        .collect()
}

/// A value as the element's type wants it. What does not fit is sent as it is, for the server to say so.
fn typed(description: &Value, element: &str, text: &str) -> Value {
    let elements = description["context"].as_array().into_iter().flatten();
    let kind = elements.filter(|e| e["name"] == element).find_map(|e| e["type"].as_str()).unwrap_or_default();
    match kind {
        "number" => text.parse::<f64>().map_or(json!(text), |number| json!(number)),
        kind if kind.starts_with("list<") => text.split(',').filter(|entry| !entry.is_empty()).collect(),
        _ => json!(text),
    }
}

/// The version's catalogue.
async fn read_catalogue(store: &str, version: &str) -> anyhow::Result<Catalogue> {
    let local = Store::open(store)?.load(&version.parse()?, &version_cache()?).await?;
    let schema: Schema = serde_json::from_slice(&std::fs::read(local.dir().join(files::SCHEMA))?)?;
    Ok(Catalogue::read(&local.dir().join(files::ITEMS), &schema.attributes)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_the_element_takes() {
        let description = json!({"context": [
            {"name": "age", "type": "number"}, {"name": "history", "type": "list<id>"}, {"name": "query", "type": "text"},
        ]});
        assert_eq!(typed(&description, "age", "30"), json!(30.0));
        assert_eq!(typed(&description, "age", "old"), json!("old"));
        assert_eq!(typed(&description, "history", "1,2"), json!(["1", "2"]));
        assert_eq!(typed(&description, "history", ""), json!([]));
        assert_eq!(typed(&description, "query", "1,2"), json!("1,2"));
        assert_eq!(members(&["a=b=c".into()], |_, value| json!(value)).unwrap()["a"], "b=c");
        assert!(members(&["a".into()], |_, value| json!(value)).unwrap_err().to_string().contains("`a` has no `=`"));
    }
}
