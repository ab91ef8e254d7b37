"""Runs a pipeline's SQL files on Spark and compares every row with the label tables that `unimodel labels` made.

Usage: test-spark.py PIPELINE LABELS OUT. Spark's tables are left in OUT; `unimodel train --labels OUT` reads them too.
"""

import math
import pathlib
import shutil
import sys

import pyarrow.parquet
import yaml
from pyspark.sql import SparkSession
from pyspark.sql.types import BooleanType, DoubleType, LongType, StringType, StructField, StructType

TYPES = {"string": StringType(), "bigint": LongType(), "double": DoubleType(), "boolean": BooleanType()}
COLUMN = {"id": "string", "category": "string", "text": "string", "number": "double", "list<id>": "array<string>"}


def register(spark, base, name, source):
    """A source under its name, with the columns and types that the pipeline file declares."""
    path = str(base / source["path"])
    if source["format"] == "parquet":
        frame = spark.read.parquet(path)
    else:
        columns = {c.get("from", n): c["type"] for n, c in source["columns"].items()}
        delimiter = source.get("delimiter", ",")
        with open(path, encoding="utf-8") as file:
            header = file.readline().rstrip("\n").split(delimiter)
        fields = [StructField(h, TYPES[columns.get(h, "string")]) for h in header]
        frame = spark.read.csv(path, sep=delimiter, header=True, schema=StructType(fields), mode="FAILFAST")
    for column, declared in source.get("columns", {}).items():
        frame = frame.withColumnRenamed(declared.get("from", column), column)
    frame.createOrReplaceTempView(name)


def run(spark, sql, out):
    """One SQL file's result as Parquet part files, read back."""
    spark.sql(sql).write.mode("overwrite").parquet(str(out))
    return spark.read.parquet(str(out))


def table(path, columns):
    """The rows of a table as tuples that can be compared."""
    rows = pyarrow.parquet.read_table(path, columns=columns)
    return list(zip(*(rows.column(c).to_pylist() for c in columns))) if columns else []


def comparable(row):
    return tuple(tuple(v) if isinstance(v, list) else v for v in row)


def same(name, ours, theirs, columns):
    """Whether two tables have the same rows, in any order between equals."""
    key = lambda row: tuple((v is not None, str(v)) for v in row)
    ours = sorted(map(comparable, table(ours, columns)), key=key)
    theirs = sorted((r for r in map(comparable, table(theirs, columns))), key=key)
    if "split" in columns and name != "events":
        split = columns.index("split")
        theirs = [row for row in theirs if row[split] != "none"]
    different = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    print(f"{name:16}{len(ours):>8} rows here {len(theirs):>8} on Spark {different:>8} different")
    for a, b in zip(ours, theirs):
        if a != b:
            print("  here    ", a, "\n  on Spark", b)
            break
    return different == 0 and math.isfinite(different)


def main(pipeline_file, labels, out):
    pipeline_file, labels, out = pathlib.Path(pipeline_file), pathlib.Path(labels), pathlib.Path(out)
    base = pipeline_file.parent
    pipeline = yaml.safe_load(pipeline_file.read_text(encoding="utf-8"))
    shutil.rmtree(out, ignore_errors=True)
    (out / "tasks").mkdir(parents=True)
    spark = (
        SparkSession.builder.master("local[*]")
        .appName("unimodel-labels")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.driver.memory", "3g")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    for name, source in pipeline["sources"].items():
        register(spark, base, name, source)
    read = lambda file: (base / file).read_text(encoding="utf-8")
    right = True
    views = [("events", pipeline["split"]["sql"]), ("items", pipeline["items"]["sql"])]
    if "users" in pipeline:
        views.append(("users", pipeline["users"]["sql"]))
    for name, sql in views:
        frame = run(spark, read(sql), out / f"{name}.parquet")
        frame.createOrReplaceTempView(name)
        right &= same(name, labels / f"{name}.parquet", out / f"{name}.parquet", frame.columns)
    declared = {e["name"]: COLUMN[e["type"]] for e in pipeline["context"]}
    for task in pipeline["tasks"]:
        path = out / "tasks" / f"{task['name']}.parquet"
        frame = run(spark, read(task["sql"]), path)
        for column, kind in frame.dtypes:
            wanted = declared.get(column)
            if wanted and kind != wanted:
                print(f"  {task['name']}: column {column} is {kind} on Spark, wanted {wanted}")
                right = False
        right &= same(task["name"], labels / "tasks" / f"{task['name']}.parquet", path, frame.columns)
    spark.stop()
    if not right:
        sys.exit("error: Spark and the embedded engine do not agree")
    print("Spark and the embedded engine agree on every row.")


if __name__ == "__main__":
    main(*sys.argv[1:])
