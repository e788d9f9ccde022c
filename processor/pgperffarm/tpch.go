package pgperffarm

import "strconv"

const tpchQueries = 22

// tpch reads a TPC-H result (section 6.3). Queries are paired by their index, whatever order they come in.
func (p *parser) tpch() {
	result := &TPCH{
		ScaleFactor: p.score("scale_factor"),
		Streams:     p.streams(),
		Power:       p.score("power_size"),
		Throughput:  p.score("throughput_size"),
		QphH:        p.score("qphh_size"),
	}
	power := p.queryTimes("power")
	throughput := p.queryTimes("throughput")
	for i := range tpchQueries {
		if power[i] != nil || throughput[i] != nil {
			result.Queries = append(result.Queries, TPCHQuery{Index: i + 1, Power: power[i], Throughput: throughput[i]})
		}
	}
	p.doc.TPCH = result
}

func (p *parser) score(member string) float64 {
	p.need(member)
	return p.measure()
}

func (p *parser) streams() int {
	p.need("num_streams")
	return int(p.looseInteger(1, maxInt4))
}

// queryTimes reads the seconds by query, at index 0 those of query 1.
func (p *parser) queryTimes(member string) (times [tpchQueries]*float64) {
	p.need(member)
	p.object(nil, func(name []byte) bool {
		n, err := strconv.Atoi(string(name))
		valid := err == nil && n >= 1 && n <= tpchQueries && strconv.Itoa(n) == string(name)
		seconds := p.measure()
		if !valid {
			p.fail("is no query, the queries are 1 to %d", tpchQueries)
			return true
		}
		times[n-1] = &seconds
		return true
	})
	return times
}
