package native

import (
	"bytes"
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// maxLimit is the largest number of rows on a page, where nothing else is said.
const maxLimit = 1000

// listing describes an endpoint that lists rows of type T.
type listing[T any] struct {
	path, summary string
	// missing says what 404 means, where there is one.
	missing string
	access  route.Access
	// body is an answer, for the description.
	body any
	// filters are the parameters that say which rows are wanted.
	filters []route.Param
	// orders are those that the list can be read in, the first one unless another is asked for.
	orders []lab.Order
	// limit is the largest number of rows on a page.
	limit  int
	topics []string
	// understand reads the filters.
	understand func(*reader) query[T]
}

// query reads pages of what a request's filters want.
type query[T any] struct {
	// machine narrows what the answer depends on; 0 means all machines.
	machine uint64
	// seen is what of the caller the answer depends on.
	seen string
	// allows refuses orders that these filters do not have; nil allows all.
	allows func(lab.Order) error
	// read reads a page with some fields, named as in JSON; all when there are none.
	read func(ctx context.Context, v *lab.View, page lab.Page, fields ...string) ([]T, cursor.Key, error)
}

func (l *listing[T]) params() []route.Param {
	params := slices.Clone(l.filters)
	if len(l.orders) > 1 {
		params = append(params, route.Param{
			Name: "sort", Enum: orderNames(l.orders), Default: l.orders[0].Name, Description: "Order of the list; with - descending.",
		})
	}
	params = append(params,
		route.Param{Name: "fields", MaxLength: maxName, Description: "Members that items shall have, separated by commas: " + strings.Join(lab.Fields[T](), ", ") + "."},
		route.Param{Name: "limit", Type: route.Integer, Min: 1, Max: int64(l.limit), Default: "100", Description: "Number of items on a page."},
		route.Param{Name: "cursor", MaxLength: cursor.MaxLength, Description: "Continue behind a page: its member next."},
	)
	return append(params, consistencyParams()...)
}

func orderNames(orders []lab.Order) []string {
	list := make([]string, len(orders))
	for i := range orders {
		list[i] = orders[i].Name
	}
	return list
}

// route gives the endpoint.
func (l listing[T]) route(n *Native) route.Route {
	params := l.params()
	return route.Route{
		Method: http.MethodGet, Path: prefix + l.path, Side: route.Query, API: API, Access: l.access, Summary: l.summary,
		Params: params, Answers: answers(l.access, l.body, l.missing),
		Handler: n.answering(func(c *gin.Context) (question, error) { return l.question(c, params) }),
	}
}

func (l *listing[T]) question(c *gin.Context, params []route.Param) (question, error) {
	if err := checkNames(c, params); err != nil {
		return question{}, err
	}
	r := &reader{c: c}
	q := l.understand(r)
	page := lab.Page{Order: l.order(r), Limit: int(r.id("limit"))}
	fields := r.fields(lab.Fields[T]())
	if r.err == nil && q.allows != nil {
		r.keep(q.allows(page.Order))
	}
	if r.err != nil {
		return question{}, r.err
	}
	identity := identify(c, page.Order)
	var err error
	if page.After, err = place(r.text("cursor"), identity, page.Order); err != nil {
		return question{}, err
	}
	return question{
		scope: fresh.Scope{Topics: l.topics, Machine: q.machine}, key: c.Request.URL.Path + "?" + c.Request.URL.Query().Encode() + q.seen,
		compute: func(ctx context.Context, v *lab.View, at fresh.At) (cache.Value, error) {
			rows, next, err := q.read(ctx, v, page, fields...)
			if err != nil {
				return cache.Value{}, err
			}
			var continued *string
			if next != nil {
				text := cursor.Format(identity, page.Order.Kinds(), next)
				continued = &text
			}
			body, err := encodePage(rows, fields, continued, at.Position)
			return cache.Value{Body: body}, err
		},
	}, nil
}

// order gives the order asked for.
func (l *listing[T]) order(r *reader) lab.Order {
	if len(l.orders) > 1 {
		name := r.text("sort")
		for _, order := range l.orders {
			if order.Name == name {
				return order
			}
		}
	}
	return l.orders[0]
}

// identify names the query that a cursor is bound to: the list, its filters and its order.
func identify(c *gin.Context, order lab.Order) string {
	filters := c.Request.URL.Query()
	for _, name := range []string{"cursor", "limit", "fields"} {
		filters.Del(name)
	}
	filters.Set("sort", order.Name)
	return c.Request.URL.Path + "?" + filters.Encode()
}

// place reads a cursor; nil when there is none.
func place(text, identity string, order lab.Order) (cursor.Key, error) {
	if text == "" {
		return nil, nil
	}
	key, err := cursor.Parse(text, identity, order.Kinds())
	if err == nil && !order.Accepts(key) {
		err = cursor.ErrMalformed
	}
	if err != nil {
		return nil, route.Errorf(http.StatusBadRequest, "query parameter cursor: %v", err)
	}
	return key, nil
}

// fields reads the members that items shall have; none means all.
func (r *reader) fields(known []string) []string {
	text := r.text("fields")
	if text == "" {
		return nil
	}
	wanted := strings.Split(text, ",")
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			r.keep(route.Errorf(http.StatusBadRequest, "query parameter fields: there is no member %q; there are: %s",
				shorten(name), strings.Join(known, ", ")))
		}
	}
	return wanted
}

// encodePage writes the answer of a list.
func encodePage[T any](rows []T, fields []string, next *string, position eventlog.Position) ([]byte, error) {
	var body bytes.Buffer
	e := jsontext.NewEncoder(&body)
	err := write(e, jsontext.BeginObject, jsontext.String("items"), jsontext.BeginArray)
	for i := range rows {
		if err == nil {
			err = encodeItem(e, reflect.ValueOf(&rows[i]).Elem(), fields)
		}
	}
	if err == nil {
		err = write(e, jsontext.EndArray, jsontext.String("next"))
	}
	if err == nil {
		err = json.MarshalEncode(e, next)
	}
	if err == nil {
		err = write(e, jsontext.String("position"), jsontext.String(position.String()), jsontext.EndObject)
	}
	return body.Bytes(), err
}

func write(e *jsontext.Encoder, tokens ...jsontext.Token) error {
	for _, token := range tokens {
		if err := e.WriteToken(token); err != nil {
			return err
		}
	}
	return nil
}

// encodeItem writes a row, or some members of it in the row's order.
func encodeItem(e *jsontext.Encoder, row reflect.Value, fields []string) error {
	if len(fields) == 0 {
		return json.MarshalEncode(e, row.Addr().Interface())
	}
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i := range row.NumField() {
		name, _, _ := strings.Cut(row.Type().Field(i).Tag.Get("json"), ",")
		if !slices.Contains(fields, name) {
			continue
		}
		if err := e.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(e, row.Field(i).Addr().Interface()); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}
