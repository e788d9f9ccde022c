package native

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// maxName bounds names and other texts in filters, in bytes.
const maxName = 1000

func idParam(name, description string) route.Param {
	return route.Param{Name: name, Type: route.Integer, Min: 1, Description: description}
}

func textParam(name, description string) route.Param {
	return route.Param{Name: name, MaxLength: maxName, Description: description}
}

func flagParam(name, description string) route.Param {
	return route.Param{Name: name, Type: route.Boolean, Description: description}
}

func required(p route.Param) route.Param {
	p.Required = true
	return p
}

// rangeParams bound a time.
func rangeParams(what string) []route.Param {
	return []route.Param{
		{Name: "from", Type: route.Time, Description: "Earliest " + what + ": RFC 3339, or Unix seconds."},
		{Name: "to", Type: route.Time, Description: "End of the range, not included: RFC 3339, or Unix seconds."},
	}
}

// checkNames refuses query parameters that the route does not have, and ones that are given twice.
func checkNames(c *gin.Context, params []route.Param) error {
	for name, values := range c.Request.URL.Query() {
		i := slices.IndexFunc(params, func(p route.Param) bool { return p.Name == name && p.In == "" })
		switch {
		case i < 0:
			return route.Errorf(http.StatusBadRequest, "there is no query parameter %q; there are: %s", shorten(name), names(params))
		case len(values) > 1 && !params[i].Repeated:
			return route.Errorf(http.StatusBadRequest, "query parameter %s is given %d times; give it once", name, len(values))
		}
	}
	return nil
}

func names(params []route.Param) string {
	var list []string
	for i := range params {
		if params[i].In == "" {
			list = append(list, params[i].Name)
		}
	}
	return strings.Join(list, ", ")
}

func shorten(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}

// reader reads parameters and keeps the first failure.
type reader struct {
	c   *gin.Context
	err error
}

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) id(name string) uint64 {
	id, err := route.Int(r.c, name)
	r.keep(err)
	return uint64(id)
}

func (r *reader) text(name string) string {
	text, err := route.Text(r.c, name)
	r.keep(err)
	return text
}

// texts reads a parameter that may be given up to most times.
func (r *reader) texts(name string, most int) []string {
	texts, err := route.Texts(r.c, name)
	r.keep(err)
	if len(texts) > most {
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter %s is given %d times; the limit is %d", name, len(texts), most))
	}
	return texts
}

// flag is nil when the parameter is absent.
func (r *reader) flag(name string) *bool {
	if r.c.Query(name) == "" {
		return nil
	}
	flag, err := route.Bool(r.c, name)
	r.keep(err)
	return &flag
}

func (r *reader) timeRange() (from, to time.Time) {
	from, err := route.Instant(r.c, "from")
	r.keep(err)
	to, err = route.Instant(r.c, "to")
	r.keep(err)
	if r.err == nil && !from.IsZero() && !to.IsZero() && !from.Before(to) {
		r.keep(route.Errorf(http.StatusBadRequest, "query parameter to must be later than from"))
	}
	return from, to
}
