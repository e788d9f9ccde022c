package clickhouse

// Codes of ClickHouse's exceptions that say more than that a query failed.
const (
	CodeUnknownTable    = 60
	CodeUnknownDatabase = 81
	CodeTimeout         = 159
	CodeTooSlow         = 160
	CodeTooMany         = 202
	CodeMemory          = 241
	CodeTooLarge        = 396
)
