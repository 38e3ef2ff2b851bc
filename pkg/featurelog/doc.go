// Package featurelog keeps what was asked of the shadow and what came of it: one row per request, with its features, for
// retraining and for questions afterwards. Logging never blocks and never fails the caller.
//
// # Files
//
// Rows are Parquet, one column per feature, named as in the schema: what a notebook asks is "select rsi14_z from", not
// "element 5 of". Columns differ between schemas, so a file holds one schema, and the folders are as Hive lays them out,
// which DuckDB, Polars, pandas and Spark know:
//
//	<dir>/date=2026-09-01/schema=v1.8.1/part-20260901T094500Z-5f0c9a3e-000001.parquet
//
// The date is the UTC day of arrival. It is the executor's own clock: event times come from callers, and one with a wrong
// clock could open a folder for every day there ever was. The name of the schema is a column by way of its folder; it is
// in the metadata of the file too (greenlight.schema), but no column inside, because some readers do not take a name
// twice. Numbers that are not finite are null.
//
// Beside the features are the raw inputs input_mid and input_spread_bp, where the request had them or a quote, so that any
// log can be labelled and retrained from; and source, where the request came from: live, replay, simulated, or empty when
// that is not known. Files of older versions do not have these three columns, and are read all the same; a query over both
// takes union_by_name. In DuckDB:
//
//	SELECT outcome, count(*), avg(rsi14_z)
//	FROM read_parquet('log/*/schema=v1.8.1/*.parquet', hive_partitioning = true, union_by_name = true)
//	WHERE date = '2026-09-01' GROUP BY outcome
//
// # Crashes
//
// A part is written whole under a name that begins with a dot and ends in .tmp, synced, and renamed to its own; then the
// folder is synced. So a file under a final name is always complete. As rows come, the part is written again with all its
// rows, old and new, and replaces itself by the rename, until it has PartRows; then the next part begins. A kill at any
// point leaves either the part as it was or as it is now: the rows since the last flush are lost, none is there twice, and
// there is nothing to merge or to repair. The price is that each row is written several times, half of PartRows at a time on
// average; the bound on PartRows keeps that to some hundred kilobytes per flush.
//
// [Open] removes the temporary files that a dead process left; those of a live one are locked.
package featurelog
