package route

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// Int reads the integer parameter that the route declares under name; an absent
// one without default is 0. A value outside of the declaration is an *Error: 404
// in a path (what it names does not exist), else 400.
func Int(c *gin.Context, name string) (int64, error) {
	p, text := param(c, name)
	if text == "" && !p.demanded() {
		return 0, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	odd := strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-0") // forms that ParseInt takes
	if err != nil || odd || value < p.Min || value > p.max() {
		return 0, p.refuse(fmt.Sprintf("an integer from %d to %d", p.Min, p.max()))
	}
	return value, nil
}

// Text reads the string parameter that the route declares under name; an absent
// one without default is "".
func Text(c *gin.Context, name string) (string, error) {
	p, text := param(c, name)
	if text == "" && !p.demanded() {
		return "", nil
	}
	return text, p.checkText(text)
}

// Texts reads all values of a repeated query parameter.
func Texts(c *gin.Context, name string) ([]string, error) {
	p, _ := param(c, name)
	values := c.QueryArray(name)
	if len(values) == 0 && p.demanded() {
		return nil, p.checkText("")
	}
	for _, value := range values {
		if err := p.checkText(value); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Instant reads a time parameter: RFC 3339, or Unix seconds with or without a
// fraction. An absent one without default is the zero time.
func Instant(c *gin.Context, name string) (time.Time, error) {
	p, text := param(c, name)
	if text == "" && !p.demanded() {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(seconds) <= maxUnixSeconds) {
		return time.Time{}, p.refuse("a time like 2006-01-02T15:04:05Z, or Unix seconds")
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1000).UTC(), nil
}

// Bool reads a boolean parameter, "true" or "false"; an absent one without
// default is false.
func Bool(c *gin.Context, name string) (bool, error) {
	p, text := param(c, name)
	switch {
	case text == "true":
		return true, nil
	case text == "false", text == "" && !p.demanded():
		return false, nil
	}
	return false, p.refuse("true or false")
}

// maxUnixSeconds is the end of the year 9999, the last that RFC 3339 writes.
const maxUnixSeconds = 253402300799

// param finds a declaration and the text that the request has for it. Asking for
// what the table does not declare is a mistake of the handler's author.
func param(c *gin.Context, name string) (*bound, string) {
	k := callOf(c)
	if k == nil {
		panic("route: parameter " + name + " read outside of a mounted route")
	}
	for i := range k.route.Params {
		p := &bound{&k.route.Params[i], k.route.place(&k.route.Params[i])}
		if p.Name != name {
			continue
		}
		text := p.text(c)
		if text == "" {
			text = p.Default
		}
		return p, text
	}
	panic("route: " + k.route.key + " does not declare the parameter " + name)
}

// bound is a parameter with its place resolved.
type bound struct {
	*Param
	place Place
}

func (p *bound) text(c *gin.Context) string {
	switch p.place {
	case InPath:
		return c.Param(p.Name)
	case InHeader:
		return c.GetHeader(p.Name)
	}
	return c.Query(p.Name)
}

// demanded parameters must be there.
func (p *bound) demanded() bool { return p.Required || p.place == InPath }

func (p *Param) max() int64 {
	if p.Max == 0 && p.Min >= 0 {
		return math.MaxInt64
	}
	return p.Max
}

func (p *bound) checkText(text string) error {
	switch {
	case text == "":
		return p.refuse("given, and not empty")
	case !utf8.ValidString(text):
		return p.refuse("UTF-8") // no answer that repeats it could be JSON
	case p.MaxLength > 0 && len(text) > p.MaxLength:
		return p.refuse(fmt.Sprintf("at most %d bytes long", p.MaxLength))
	case len(p.Enum) > 0 && !slices.Contains(p.Enum, text):
		return p.refuse("one of " + strings.Join(p.Enum, ", "))
	}
	return nil
}

func (p *bound) refuse(rule string) error {
	if p.place == InPath {
		return Errorf(http.StatusNotFound, "nothing has this address: %s must be %s", p.Name, rule)
	}
	return Errorf(http.StatusBadRequest, "%s parameter %s must be %s", p.place, p.Name, rule)
}
