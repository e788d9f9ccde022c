package ui_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/query/native/lab"
)

// browser is a page in a real browser.
type browser struct {
	*testing.T

	ctx  context.Context
	base string

	mu       sync.Mutex
	messages []string
}

// browse opens a browser for a site. What it has to say of the pages, as of something that their policy stops, fails the
// test.
func browse(t *testing.T, s site) *browser {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("there is no chromium here, so the pages are not looked at in a browser")
	}
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.Close)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("window-size", "1280,900"))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	bounded, cancel := context.WithTimeout(allocator, time.Minute)
	t.Cleanup(cancel)
	ctx, leave := chromedp.NewContext(bounded)
	t.Cleanup(leave)
	b := &browser{T: t, ctx: ctx, base: server.URL}
	b.listen()
	return b
}

// listen collects what the browser says, until the test ends.
func (b *browser) listen() {
	entries := chromedp.Events(b.ctx, cdplog.EntryAdded)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for entry, err := range entries {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.messages = append(b.messages, fmt.Sprintf("%s: %s (%s)", entry.Entry.Level, entry.Entry.Text, entry.Entry.URL))
			b.mu.Unlock()
		}
	}()
	b.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, message := range b.messages {
			b.Errorf("the browser says %s", message)
		}
	})
}

// do performs steps, and look reads what a JavaScript expression gives.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatal(err)
	}
}

func look[T any](b *browser, expression string) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (b *browser) open(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.base+path), chromedp.WaitVisible("figure.chart svg .mean"))
}

// drawn are the heights of the chart's line at its points, as shares of the axis between two of its numbers.
const drawn = `(() => {
	const ticks = [...document.querySelectorAll("text.tick[text-anchor=end]:not(.commit)")].map((t) => [Number(t.textContent.replace(/\s/g, "")), t.getAttribute("y") - 4]);
	const [[v0, y0], [v1, y1]] = [ticks[0], ticks.at(-1)];
	return document.querySelector(".mean").getAttribute("points").split(" ").map((p) => v0 + (p.split(",")[1] - y0) / (y1 - y0) * (v1 - v0));
})()`

func TestBrowserShowsTheTrendInNumbersAndInTheChart(t *testing.T) {
	l := filled(t)
	b := browse(t, serve(t, l, tokens{}))
	b.open("/ui/trend?machine=1&config=1&branch=1&metric=tps")
	trend, err := l.View().Trend(t.Context(), lab.TrendQuery{
		Series: lab.Series{MachineID: 1, ConfigID: 1, BranchID: 1, Metric: "tps"}, Resolution: lab.PerRun,
	})
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	var means []float64
	for _, p := range trend.Points {
		means = append(means, p.Mean)
		shown = append(shown, fmt.Sprintf("%d %s 1\u2009%03.0f", p.RunID, p.Time.Format("2 Jan 2006 15:04"), p.Mean-1000))
	}
	rows := look[[]string](b, `[...document.querySelectorAll("#points tbody tr")].map((r) => [0, 1, 3].map((i) => r.cells[i].innerText).join(" "))`)
	if diff := cmp.Diff(shown, rows); diff != "" {
		t.Errorf("the table (-want +shown):\n%s", diff)
	}
	heights := look[[]float64](b, drawn)
	for i, height := range heights {
		if len(heights) != len(means) || height < means[i]-0.1 || height > means[i]+0.1 {
			t.Fatalf("the line is drawn at %v, the means are %v", heights, means)
		}
	}
	if dots := look[int](b, `document.querySelectorAll("circle.dot").length`); dots != len(means) {
		t.Errorf("%d points are drawn, want %d", dots, len(means))
	}
}

func TestNewestCommitHasItsNameAtTheEdgeOfTheChart(t *testing.T) {
	b := browse(t, serve(t, filled(t), tokens{}))
	b.open("/ui/trend?machine=1&config=1&branch=1&metric=tps")
	names := look[[]string](b, `[...document.querySelectorAll("text.commit")].map((t) => t.textContent)`)
	commits := look[[]string](b, `[...document.querySelectorAll("#points tbody tr")].map((r) => r.cells[2].innerText.slice(0, 8))`)
	if len(names) == 0 || names[len(names)-1] != commits[len(commits)-1] {
		t.Errorf("the chart names %q of the commits %q", names, commits)
	}
	if out := look[bool](b, `[...document.querySelectorAll("text.commit")].some((t) => t.getBoundingClientRect().right > document.querySelector("figure.chart").getBoundingClientRect().right)`); out {
		t.Error("a name is cut at the edge")
	}
}

func TestKeysWalkAlongTheChartAndOpenARun(t *testing.T) {
	b := browse(t, serve(t, filled(t), tokens{}))
	b.open("/ui/trend?machine=1&config=1&branch=1&metric=tps")
	b.do(chromedp.Focus("figure.chart svg"), chromedp.KeyEvent(kb.Home), chromedp.KeyEvent(kb.ArrowRight), chromedp.WaitVisible(".tip"))
	if tip := look[string](b, `document.querySelector(".tip").innerText`); !strings.Contains(tip, "3 Feb 2026 06:00") || !strings.Contains(tip, "1\u2009002 tps") {
		t.Errorf("at the second point the chart says %q", tip)
	}
	if spoken := look[string](b, `document.querySelector("[aria-live]").textContent`); spoken != "3 Feb 2026 06:00: value 1\u2009002 tps" {
		t.Errorf("it reads aloud %q", spoken)
	}
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#seconds svg"))
	if at := look[string](b, `location.pathname`); at != "/ui/runs/3" {
		t.Errorf("Enter leads to %s, want the run of the second point", at)
	}
}

func TestClickOnAPointLeadsToItsRun(t *testing.T) {
	b := browse(t, serve(t, filled(t), tokens{}))
	b.open("/ui/trend?machine=1&config=1&branch=1&metric=log.tps")
	if keys := look[string](b, `document.querySelector("figcaption").innerText`); !strings.Contains(keys, "up to p95") {
		t.Errorf("the chart is explained by %q", keys)
	}
	spot := look[[]float64](b, `(() => { const dot = [...document.querySelectorAll("circle.dot")].at(-1); dot.scrollIntoView({ block: "center" }); const r = dot.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`)
	b.do(chromedp.MouseClickXY(spot[0], spot[1]), chromedp.WaitVisible("#seconds svg"))
	if at := look[string](b, `location.pathname`); at != "/ui/runs/5" {
		t.Errorf("a click on the last point leads to %s, want /ui/runs/5", at)
	}
}

func TestChoosingShowsTheOtherTrend(t *testing.T) {
	b := browse(t, serve(t, filled(t), tokens{}))
	b.open("/ui/trend?machine=1&config=1&branch=1&metric=tps")
	look[bool](b, `(() => { const s = document.querySelector("select[name=config]"); s.value = "2"; return s.dispatchEvent(new Event("change", { bubbles: true })); })()`)
	b.do(chromedp.WaitVisible(`//p[contains(., "8 clients")]`), chromedp.WaitVisible("figure.chart svg .mean"))
	if at := look[string](b, `location.search`); at != "?machine=1&config=2&branch=1&metric=tps" {
		t.Errorf("the address is %s", at)
	}
}

func TestBrowserShowsTheDescriptionOfTheAPI(t *testing.T) {
	s := serve(t, nil, tokens{})
	b := browse(t, s)
	b.do(chromedp.Navigate(b.base+"/docs"), chromedp.WaitVisible("#get_ui_trend > summary"), chromedp.Click("#get_ui_trend > summary"),
		chromedp.WaitVisible("#get_ui_trend .body"))
	if text := look[string](b, `document.querySelector("#get_ui_trend .body").innerText`); !strings.Contains(text, "resolution") || !strings.Contains(text, "otherwise auto") {
		t.Errorf("the endpoint is described as %q", text)
	}
}
