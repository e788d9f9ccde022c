package lab

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/query/native/cursor"
)

// columnType says how a column's values travel in cursors and in SQL.
type columnType uint8

const (
	unsigned columnType = iota
	text
	identifier // UUID
	float      // by its bits
	millis     // DateTime64(3), Unix milliseconds
	micros     // DateTime64(6), Unix microseconds
)

// parameters are the SQL of a value whose placeholder is ?.
var parameters = [...]string{
	unsigned:   "?",
	text:       "?",
	identifier: "toUUID(?)",
	float:      "reinterpretAsFloat64(toUInt64(?))",
	millis:     "fromUnixTimestamp64Milli(toInt64(?), 'UTC')",
	micros:     "fromUnixTimestamp64Micro(toInt64(?), 'UTC')",
}

// column is a column that a list is sorted by.
type column struct {
	name string
	kind columnType
}

// Order is an order of a list. Its last column tells rows apart that are equal in the others.
type Order struct {
	// Name is the order's name in requests, with a leading - when it descends.
	Name       string
	columns    []column
	descending bool
}

// both gives an order and its reverse.
func both(name string, columns ...column) []Order {
	return []Order{{Name: name, columns: columns}, {Name: "-" + name, columns: columns, descending: true}}
}

// Kinds are the kinds of values in the order's sort keys.
func (o Order) Kinds() []cursor.Kind {
	kinds := make([]cursor.Kind, len(o.columns))
	for i, c := range o.columns {
		if c.kind == text || c.kind == identifier {
			kinds[i] = cursor.Text
		}
	}
	return kinds
}

// latest is the end of time in the tables.
var latest = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)

// Accepts says whether a key, which a client may have made up, can be a place in this order.
func (o Order) Accepts(key cursor.Key) bool {
	for i, c := range o.columns {
		switch c.kind {
		case identifier:
			if id, err := uuid.Parse(key[i].Text); err != nil || id.String() != key[i].Text {
				return false
			}
		case millis:
			if key[i].Number >= uint64(latest.UnixMilli()) {
				return false
			}
		case micros:
			if key[i].Number >= uint64(latest.UnixMicro()) {
				return false
			}
		}
	}
	return true
}

// behind is the condition of the rows behind a key. Beside the comparison of the whole key it bounds the first column
// alone, which is what the index is searched by.
func (o Order) behind(w *where, key cursor.Key) {
	if key == nil {
		return
	}
	compare := " > "
	if o.descending {
		compare = " < "
	}
	if len(o.columns) == 1 {
		w.and(o.columns[0].name+compare+parameters[o.columns[0].kind], o.columns[0].value(key[0]))
		return
	}
	var names, wanted []string
	var values []any
	for i, c := range o.columns {
		names, wanted = append(names, c.name), append(wanted, parameters[c.kind])
		values = append(values, c.value(key[i]))
	}
	w.and(names[0]+strings.TrimSuffix(compare, " ")+"= "+wanted[0], values[0])
	w.and("("+strings.Join(names, ", ")+")"+compare+"("+strings.Join(wanted, ", ")+")", values...)
}

func (c column) value(v cursor.Value) any {
	if c.kind == text || c.kind == identifier {
		return v.Text
	}
	return v.Number
}

func (o Order) sql() string {
	names := make([]string, len(o.columns))
	for i, c := range o.columns {
		names[i] = c.name
		if o.descending {
			names[i] += " DESC"
		}
	}
	return strings.Join(names, ", ")
}

// where collects conditions and their values.
type where struct {
	conditions []string
	values     []any
}

func (w *where) and(condition string, values ...any) {
	w.conditions = append(w.conditions, condition)
	w.values = append(w.values, values...)
}

// equal adds a condition unless the value is the zero one, which means any.
func equal[T comparable](w *where, column string, value T) {
	var none T
	if value != none {
		w.and(column+" = ?", value)
	}
}

// is adds a condition on a flag unless it is nil.
func (w *where) is(column string, value *bool) {
	if value != nil {
		w.and(column+" = ?", *value)
	}
}

// since adds the bounds of a time range, from included, to not; a zero time is no bound.
func (w *where) since(column column, from, to time.Time) {
	unix := time.Time.UnixMicro
	if column.kind == millis {
		unix = time.Time.UnixMilli
	}
	if !from.IsZero() {
		w.and(column.name+" >= "+parameters[column.kind], unix(from))
	}
	if !to.IsZero() {
		w.and(column.name+" < "+parameters[column.kind], unix(to))
	}
}

func (w *where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return "\nWHERE " + strings.Join(w.conditions, " AND ")
}

// selection is a query that can be read a page at a time.
type selection struct {
	columns []string
	// from is a table expression, in which {db} is the generation's database, and given are the values that it takes.
	from  string
	given []any
	where where
	group string
	// projection is the table's projection that is stored in the list's order, for queries that ClickHouse would answer
	// otherwise by itself.
	projection string
}

// sql gives the query of a page and its values.
func (s selection) sql(database string, order Order, after cursor.Key, limit int) (string, []any) {
	w := where{conditions: slices.Clone(s.where.conditions), values: slices.Concat(s.given, s.where.values)}
	order.behind(&w, after)
	text := "SELECT " + strings.Join(s.columns, ", ") + "\nFROM " + s.from + w.sql()
	if s.group != "" {
		text += "\nGROUP BY " + s.group
	}
	text += "\nORDER BY " + order.sql() + "\nLIMIT ?"
	if s.projection != "" {
		text += "\nSETTINGS preferred_optimize_projection_name = '" + s.projection + "'"
	}
	return in(database, text), append(w.values, limit)
}

// in puts the generation's database into a query.
func in(database, text string) string { return strings.ReplaceAll(text, "{db}", "`"+database+"`") }
