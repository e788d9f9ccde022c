package ui

import (
	"fmt"
	"html/template"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/query/native/lab"
)

// functions are what templates can do.
func (u *UI) functions() template.FuncMap {
	return template.FuncMap{
		"asset": u.assets.address, "link": link, "number": number, "count": func(n any) string { return grouped(fmt.Sprint(n)) },
		"date": date, "moment": moment, "iso": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"exact": exact, "short": short, "bytes": size, "fileSize": func(n uint64) string { return size(int64(n)) }, "seconds": seconds, "unit": unit, "title": metricTitle, "plural": plural,
		"signed": signed, "instant": instant, "short8": func(id string) string { return clip(id, 8) },
		"phaseName": phaseName, "verdict": func(j lab.Job) verdict { return verdictOf(&j) }, "jobID": shortID, "word": shellWord,
		"changeTitle": changeTitle,
		"clip":        func(text string) string { return clip(text, textShown) }, "excerpt": func(text string) string { return clip(text, titleShown) },
	}
}

// textShown and titleShown bound the characters of an uploaded text that a page shows, and that it shows on hover.
const textShown, titleShown = 80, 200

// clip cuts a text to a number of characters.
func clip(text string, characters int) string {
	for i := range text {
		if characters == 0 {
			return text[:i] + "…"
		}
		characters--
	}
	return text
}

// number shows a value with about four digits.
func number(value float64) string {
	magnitude := math.Abs(value)
	switch {
	case magnitude == 0:
		return "0"
	case magnitude >= 1e12 || magnitude < 1e-4:
		return strconv.FormatFloat(value, 'e', 2, 64)
	case magnitude >= 1000:
		return grouped(strconv.FormatFloat(value, 'f', 0, 64))
	}
	decimals := 3 - int(math.Floor(math.Log10(magnitude)))
	text := strconv.FormatFloat(value, 'f', max(0, decimals), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// grouped puts thin spaces between thousands.
func grouped(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "−", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return sign + strings.Join(groups, "\u2009")
}

// signed shows a fraction as a percentage with its sign.
func signed(fraction float64) string {
	percent := 100 * fraction
	switch {
	case percent >= 1000:
		return fmt.Sprintf("×%s", number(fraction+1))
	case math.Abs(percent) < 0.05:
		return "±0 %"
	}
	text := strconv.FormatFloat(math.Abs(percent), 'f', 1, 64) + "\u2009%"
	if percent < 0 {
		return "−" + text
	}
	return "+" + text
}

func exact(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }

func date(t time.Time) string { return t.UTC().Format("2 Jan 2006") }

// instant shows a time to the second.
func instant(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05") }
func moment(t time.Time) string  { return t.UTC().Format("2 Jan 2006 15:04") }

func phaseName(phase string) string { return strings.ReplaceAll(phase, "_", " ") }

// shortID cuts the UUID in a job's id.
func shortID(id string) string {
	if family, name, ok := strings.Cut(id, "-"); ok && len(name) == 36 {
		return family + "-" + clip(name, 8)
	}
	return id
}

// plainWord matches what a shell takes as it stands.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:/+-]*$`)

// shellWord quotes a text for a command to be copied.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// short cuts a commit as git shows it.
func short(commit string) string {
	if len(commit) == 40 {
		return commit[:10]
	}
	return commit
}

// size shows bytes.
func size(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, i := float64(bytes), 0
	for ; value >= 1024 && i < len(units)-1; i++ {
		value /= 1024
	}
	return number(value) + " " + units[i]
}

func seconds(value any) string {
	switch s := value.(type) {
	case int32:
		return grouped(strconv.Itoa(int(s))) + " s"
	case *float64:
		if s != nil {
			return number(*s) + " s"
		}
	case float64:
		return number(s) + " s"
	}
	return "–"
}

func plural(n any, one, many string) string {
	if text := fmt.Sprint(n); text != "1" {
		return grouped(text) + " " + many
	}
	return "1 " + one
}

// unit is what a metric is measured in; empty where that is not known.
func unit(metric string) string {
	metric = strings.TrimPrefix(metric, "custom.")
	switch {
	case metric == "tps", metric == "log.tps":
		return "tps"
	case metric == "latency", metric == "log.latency":
		return "ms"
	case metric == "init", strings.HasPrefix(metric, "tpch.query."):
		return "s"
	}
	return ""
}

var titles = map[string]string{
	"tps": "Transactions per second", "latency": "Mean latency", "init": "Time to fill the tables",
	"log.tps": "Transactions in each second", "log.latency": "Mean latency in each second",
	"tpch.power": "TPC-H power", "tpch.throughput": "TPC-H throughput", "tpch.composite": "TPC-H composite",
}

// metricTitle is a metric's name for people; its own name where it has none.
func metricTitle(metric string) string {
	if name, custom := strings.CutPrefix(metric, "custom."); custom && titles[name] != "" {
		return titles[name] + ", custom script"
	}
	if title := titles[metric]; title != "" {
		return title
	}
	return metric
}

// label names a configuration.
func label(c *lab.Config) string {
	switch {
	case c.ScaleFactor != nil && c.Streams != nil:
		return fmt.Sprintf("scale factor %s · %s", number(*c.ScaleFactor), plural(*c.Streams, "stream", "streams"))
	case c.Clients == nil || c.Scale == nil || c.Duration == nil || c.ReadOnly == nil:
		return fmt.Sprintf("configuration %d", c.ConfigID)
	}
	return pgbenchLabel(*c.Clients, *c.Scale, *c.Duration, *c.ReadOnly)
}

func pgbenchLabel(clients, scale, duration int32, readOnly bool) string {
	mode := "read-write"
	if readOnly {
		mode = "read-only"
	}
	return fmt.Sprintf("%s · scale %d · %s · %s", plural(clients, "client", "clients"), scale, seconds(duration), mode)
}
