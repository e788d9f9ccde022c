package target

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Counters reads a family of counters from the target's /metrics, by the values of one label.
func (t *Target) Counters(ctx context.Context, family, label string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+t.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", request.URL, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	if families[family] == nil {
		return nil, fmt.Errorf("GET %s has no %s", request.URL, family)
	}
	counters := map[string]float64{}
	for _, m := range families[family].GetMetric() {
		for _, pair := range m.GetLabel() {
			if pair.GetName() == label {
				counters[pair.GetValue()] += m.GetCounter().GetValue()
			}
		}
	}
	return counters, nil
}
