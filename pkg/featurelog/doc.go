// Package featurelog records the shadow's requests and answers: one row per request, with its features, for retraining and
// later analysis. Logging never blocks and never fails the caller.
//
// # Files
//
// Rows are Parquet with one column per feature, named as in the schema: a notebook selects rsi14_z, not "element 5".
// Columns differ between schemas, so a file holds one schema. Folders use Hive's layout, which DuckDB, Polars, pandas
// and Spark understand:
//
//	<dir>/date=2026-09-01/schema=v1.8.1/part-20260901T094500Z-5f0c9a3e-000001.parquet
//
// Several such folders become one log as the partitions executor=<id> of another folder.
//
// The date is the UTC day of arrival by executor's own clock. Event times come from callers, and a wrong clock could
// otherwise create a folder for any day. The schema name is a column through its folder. It is also in the file's
// metadata (greenlight.schema), but not a column inside the file, because some readers reject duplicate names. Numbers
// that are not finite are null.
//
// Before the features come the raw inputs input_mid and input_spread_bp, if the request had them or a quote. With them any
// log can be labelled and used for retraining. The column source says where the request came from: live, replay, simulated,
// or empty if unknown.
//
// While a gate is set, decided_by is baseline or model, reason is why the baseline decided (null if the model did),
// final_score is the decision, and rollout_revision is the revision of the rollout at that time. They are null otherwise.
//
// Files of older versions lack these columns and are still read; a query over both needs union_by_name. In DuckDB:
//
//	SELECT outcome, count(*), avg(rsi14_z)
//	FROM read_parquet('log/*/schema=v1.8.1/*.parquet', hive_partitioning = true, union_by_name = true)
//	WHERE date = '2026-09-01' GROUP BY outcome
//
// # Crashes
//
// A part is written completely under a name that starts with a dot and ends in .tmp, synced, and renamed to its final
// name; then the folder is synced. A file with a final name is therefore always complete. As rows arrive, the part is
// rewritten with all its rows and replaced by the rename, until it has PartRows; then the next part starts. After a
// kill the part is either the old or the new one. Rows since the last flush are lost, no row is duplicated, and there
// is nothing to merge or repair. The cost is that each row is written several times: a flush writes half of PartRows on
// average. The limit on PartRows keeps this to a few hundred kilobytes per flush.
//
// [Open] removes temporary files left by a dead process; a live process keeps its files locked. A part is locked too for as
// long as its process may replace it, so [Log.OpenPart] can tell which parts are complete, even after a kill.
package featurelog
