package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

// measured makes an upload of one result with the given tps.
func measured(n int, tps float64) []byte {
	o := farmdoc.Small(options(n))
	o.TPS = tps
	return farmdoc.Synthetic(o)
}

// measuredTPS are the results of the uploads that the tests below make, in their order.
var measuredTPS = []float64{2000, 2100.5, 1999.25, 2250, 2200}

// uploadTrend uploads a short history of a new machine.
func uploadTrend(t *testing.T, lab *Lab) Machine {
	t.Helper()
	machine := lab.Machine(t)
	for n, tps := range measuredTPS {
		lab.Upload(t, machine, measured(n, tps)).Want(t, http.StatusCreated)
	}
	return machine
}

// series is a series as /millrace/v1/metrics/names lists it.
type series struct {
	Config  uint64 `json:"config_id"`
	Branch  uint64 `json:"branch_id"`
	Samples int    `json:"samples"`
}

func TestTrendOfUploadsIsReadFromTheNativeAPI(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine, token := uploadTrend(t, lab), "Bearer "+lab.Token(t, "viewer")
		read := func(path string, into any) {
			t.Helper()
			lab.Get(t, "/millrace/v1"+path, "Authorization", token).Want(t, http.StatusOK).JSON(t, into)
		}
		var names struct{ Items []series }
		read(fmt.Sprintf("/metrics/names?machine=%d&prefix=tps", machine.ID), &names)
		if len(names.Items) != 1 || names.Items[0].Samples != len(measuredTPS) {
			t.Fatalf("the machine's series are %+v, want one of %d samples", names.Items, len(measuredTPS))
		}
		var trend struct {
			Resolution string
			Items      []struct {
				Mean  float64
				Count int
			}
		}
		of := fmt.Sprintf("machine=%d&config=%d&branch=%d&metric=tps", machine.ID, names.Items[0].Config, names.Items[0].Branch)
		for _, resolution := range []string{"raw", "run", "hour"} {
			read("/trend?"+of+"&resolution="+resolution, &trend)
			var means []float64
			for _, point := range trend.Items {
				means = append(means, point.Mean)
			}
			if trend.Resolution != resolution || !slices.Equal(means, measuredTPS) {
				t.Errorf("resolution %s: means %v of resolution %s, want %v", resolution, means, trend.Resolution, measuredTPS)
			}
		}
		var runs struct {
			Items []struct {
				Run uint64 `json:"run_id"`
			}
			Next *string
		}
		read(fmt.Sprintf("/runs?machine=%d&sort=-start_time&limit=2&fields=run_id", machine.ID), &runs)
		first := slices.Clone(runs.Items)
		if len(first) != 2 || runs.Next == nil {
			t.Fatalf("the first page of runs is %+v", runs)
		}
		lab.Upload(t, machine, measured(len(measuredTPS), 1)).Want(t, http.StatusCreated)
		read(fmt.Sprintf("/runs?machine=%d&sort=-start_time&limit=9&fields=run_id&cursor=%s", machine.ID, *runs.Next), &runs)
		if len(runs.Items) != len(measuredTPS)-2 || runs.Next != nil || runs.Items[0].Run >= first[1].Run {
			t.Errorf("after %+v, and with another run come in, the second page is %+v", first, runs.Items)
		}
	})
}

// row is a row of the trend page's table: the run it leads to, and the mean that the chart is drawn by.
var row = regexp.MustCompile(`<tr data-t="\d+"[^>]* data-mean="([^"]+)"[^>]*>\s*<td><a href="/ui/runs/(\d+)">`)

func TestBrowserShowsTheTrendOfWhatWasUploaded(t *testing.T) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here (Debian's package of that name), so the pages are not looked at in a browser")
	}
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine := uploadTrend(t, lab)
		path := fmt.Sprintf("/ui/trend?machine=%d", machine.ID)
		if lab.Get(t, path).Status == http.StatusUnauthorized {
			t.Skip("reads want a token here, which this browser has no way to send")
		}
		page := render(t, program, lab.URL()+path)
		var means []float64
		for _, found := range row.FindAllStringSubmatch(page, -1) {
			mean, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			means = append(means, mean)
		}
		if !slices.Equal(means, measuredTPS) {
			t.Errorf("the page's table has the means %v, want %v", means, measuredTPS)
		}
		line := regexp.MustCompile(`<polyline class="mean" points="([^"]+)"`).FindStringSubmatch(page)
		if len(line) < 2 || len(strings.Fields(line[1])) != len(measuredTPS) {
			t.Errorf("the chart's line is %v, want one through %d points", line, len(measuredTPS))
		}
		if !strings.Contains(page, machine.Alias) {
			t.Errorf("the page does not name the machine %s", machine.Alias)
		}
	})
}

// render gives a page as a browser has it once its scripts have run.
func render(t *testing.T, program, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	page, err := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=5000", "--dump-dom", url).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", program, url, err)
	}
	return string(page)
}
