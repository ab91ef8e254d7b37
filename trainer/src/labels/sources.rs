//! Sources as tables of the session.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::csv::reader::Format as CsvHeader;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Column as ColumnName;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::logical_expr::{Expr, cast};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use super::LabelError;
use super::error::first_line;
use crate::pipeline::{Column, ColumnType, Format, LoadedPipeline, Source};

/// Enough for any header line.
const HEADER_BYTES: u64 = 256 * 1024;

/// Makes every source readable under its name.
pub(super) async fn register(context: &SessionContext, pipeline: &LoadedPipeline) -> Result<(), LabelError> {
    for (name, source) in &pipeline.pipeline.sources {
        let path = match source.path.contains("://") {
            true => source.path.clone(),
            false => pipeline.resolve(&source.path).display().to_string(),
        };
        table(context, name, source, &path).await.map_err(|problem| LabelError::Source {
            name: name.clone(),
            path,
            problem,
        })?;
    }
    Ok(())
}

async fn table(context: &SessionContext, name: &str, source: &Source, path: &str) -> Result<(), String> {
    let Opened { store, base, files } = open(path).await?;
    context.register_object_store(&base, store.clone());
    let urls: Result<Vec<_>, _> = files.iter().map(|f| ListingTableUrl::try_new(file_url(&base, f), None)).collect();
    let mut config = ListingTableConfig::new_with_multi_paths(urls.map_err(|e| first_line(&e))?);
    let format: Arc<dyn FileFormat> = match source.format {
        Format::Csv => {
            // Quoted text may hold line breaks; a file is then not cut in the middle of a value.
            Arc::new(CsvFormat::default().with_delimiter(delimiter(source)).with_newlines_in_values(true))
        }
        Format::Parquet => Arc::new(ParquetFormat::default()),
    };
    config = config.with_listing_options(ListingOptions::new(format).with_file_extension(""));
    config = match source.format {
        Format::Csv => {
            let header = header(store.as_ref(), &files, delimiter(source)).await?;
            if source.columns.is_empty() {
                config.infer_schema(&context.state()).await.map_err(|e| first_line(&e))?
            } else {
                config.with_schema(declared(&header, &source.columns)?)
            }
        }
        Format::Parquet => config.infer_schema(&context.state()).await.map_err(|e| first_line(&e))?,
    };
    let table = ListingTable::try_new(config).map_err(|e| first_line(&e))?;
    let frame = context.read_table(Arc::new(table)).map_err(|e| first_line(&e))?;
    let frame = match source.columns.is_empty() {
        true => frame,
        false => {
            for (name, column) in &source.columns {
                let names: Vec<&str> = frame.schema().fields().iter().map(|f| f.name().as_str()).collect();
                require(&names, file_name(name, column))?;
            }
            let columns = source.columns.iter().map(|(name, column)| {
                let found = Expr::Column(ColumnName::from_name(file_name(name, column)));
                cast(found, data_type(column.kind)).alias(name)
            });
            frame.select(columns.collect::<Vec<_>>()).map_err(|e| first_line(&e))?
        }
    };
    context.register_table(name, frame.into_view()).map_err(|e| first_line(&e))?;
    Ok(())
}

/// Files and where they are.
struct Opened {
    store: Arc<dyn ObjectStore>,
    /// The URL of the store's root.
    base: Url,
    /// In order of name.
    files: Vec<ObjectPath>,
}

const GLOB: [char; 3] = ['*', '?', '['];

async fn open(path: &str) -> Result<Opened, String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    let (store, base, prefix) = if path.contains("://") { remote(path, folder, name)? } else { local(folder, name)? };
    let files = match name.contains(GLOB) {
        true => matching(store.as_ref(), &prefix, name).await?,
        false => match store.head(&prefix).await {
            Ok(_) => vec![prefix],
            Err(object_store::Error::NotFound { .. }) => return Err("there is no such file".into()),
            Err(e) => return Err(e.to_string()),
        },
    };
    Ok(Opened { store, base, files })
}

/// A store, the URL of its root, and the path of the file in it, or of the folder where the name is a glob.
type Located = (Arc<dyn ObjectStore>, Url, ObjectPath);

fn local(folder: &str, name: &str) -> Result<Located, String> {
    let folder = Path::new(if folder.is_empty() { "/" } else { folder });
    let folder = folder.canonicalize().map_err(|e| format!("cannot read folder {}: {e}", folder.display()))?;
    if folder.join(name).is_dir() {
        return Err("it is a folder; name its files by a glob in the last segment, such as `*.parquet`".into());
    }
    let path = if name.contains(GLOB) { folder } else { folder.join(name) };
    let prefix = ObjectPath::from_absolute_path(path).map_err(|e| e.to_string())?;
    let base = Url::parse("file:///").map_err(|e| e.to_string())?;
    Ok((Arc::new(object_store::local::LocalFileSystem::new()), base, prefix))
}

fn remote(path: &str, folder: &str, name: &str) -> Result<Located, String> {
    let known = "use a path or an s3://, gs://, az:// or https:// URL";
    let url = Url::parse(if name.contains(GLOB) { folder } else { path }).map_err(|e| format!("{e}; {known}"))?;
    if !["s3", "gs", "az", "https"].contains(&url.scheme()) {
        return Err(format!("`{}://` is not known; {known}", url.scheme()));
    }
    let mut base = url.clone();
    base.set_path("");
    let settings =
        std::env::vars().filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| name.starts_with(p)));
    let settings = settings.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (store, prefix) = object_store::parse_url_opts(&url, settings).map_err(|e| format!("{e}; {known}"))?;
    Ok((Arc::from(store), base, prefix))
}

/// The files of a folder whose name matches.
async fn matching(store: &dyn ObjectStore, folder: &ObjectPath, name: &str) -> Result<Vec<ObjectPath>, String> {
    let pattern = glob::Pattern::new(name).map_err(|e| format!("`{name}` is not a glob: {e}"))?;
    let listed = store.list_with_delimiter(Some(folder)).await.map_err(|e| e.to_string())?.objects;
    let matches = listed.into_iter().map(|o| o.location).filter(|l| l.filename().is_some_and(|n| pattern.matches(n)));
    let mut files: Vec<ObjectPath> = matches.collect();
    files.sort();
    if files.is_empty() { Err(format!("no file matches `{name}`")) } else { Ok(files) }
}

fn file_url(base: &Url, path: &ObjectPath) -> Url {
    let mut url = base.clone();
    url.set_path(path.as_ref());
    url
}

/// The column names of CSV files, which must be the same in all of them: values go by position.
async fn header(store: &dyn ObjectStore, files: &[ObjectPath], delimiter: u8) -> Result<Vec<String>, String> {
    let mut first: Option<Vec<String>> = None;
    for file in files {
        let mut start = Vec::new();
        let mut stream = store.get(file).await.map_err(|e| e.to_string())?.into_stream();
        while let Some(bytes) = stream.try_next().await.map_err(|e| e.to_string())? {
            start.extend_from_slice(&bytes);
            if start.contains(&b'\n') || start.len() as u64 > HEADER_BYTES {
                break;
            }
        }
        let format = CsvHeader::default().with_header(true).with_delimiter(delimiter);
        let (schema, _) = format.infer_schema(start.as_slice(), Some(0)).map_err(|e| e.to_string())?;
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        match &first {
            None if names.is_empty() => return Err(format!("{file} is empty; it needs a header line")),
            None => first = Some(names),
            Some(first) if *first != names => {
                return Err(format!(
                    "{file} has columns {}, but {} has {}",
                    names.join(", "),
                    files[0],
                    first.join(", ")
                ));
            }
            Some(_) => {}
        }
    }
    Ok(first.unwrap_or_default())
}

/// The schema that the CSV reader parses by: declared types under the file's names, text for the rest.
fn declared(header: &[String], columns: &BTreeMap<String, Column>) -> Result<SchemaRef, String> {
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    for (name, column) in columns {
        require(&names, file_name(name, column))?;
    }
    let field = |name: &String| {
        let column = columns.iter().find(|(n, c)| file_name(n, c) == name);
        Field::new(name, column.map_or(DataType::Utf8, |(_, c)| data_type(c.kind)), true)
    };
    Ok(Arc::new(Schema::new(header.iter().map(field).collect::<Vec<_>>())))
}

fn require(names: &[&str], name: &str) -> Result<(), String> {
    match names.contains(&name) {
        true => Ok(()),
        false => Err(format!("there is no column `{name}`; the file has {}", names.join(", "))),
    }
}

fn file_name<'a>(name: &'a str, column: &'a Column) -> &'a str {
    column.from.as_deref().unwrap_or(name)
}

fn delimiter(source: &Source) -> u8 {
    source.delimiter.as_bytes().first().copied().unwrap_or(b',')
}

fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::String => DataType::Utf8,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
    }
}
