package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Allowed is what may be reached besides public addresses.
type Allowed struct {
	networks []netip.Prefix
	hosts    []string
}

// ParseAllowed reads networks, addresses and names of hosts, as in "10.1.0.0/16", "127.0.0.1" and "ci.example.org".
func ParseAllowed(list []string) (Allowed, error) {
	var a Allowed
	for _, text := range list {
		text = strings.TrimSpace(text)
		if prefix, err := netip.ParsePrefix(text); err == nil {
			a.networks = append(a.networks, prefix.Masked())
			continue
		}
		if address, err := netip.ParseAddr(text); err == nil {
			address = address.Unmap().WithZone("")
			a.networks = append(a.networks, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		if text == "" || strings.ContainsAny(text, "/:@ ") {
			return Allowed{}, fmt.Errorf("%q is no network, address or name of a host, such as 10.1.0.0/16, 127.0.0.1 or ci.example.org", text)
		}
		a.hosts = append(a.hosts, canonical(text))
	}
	return a, nil
}

// With gives what allows more hosts.
func (a Allowed) With(hosts ...string) Allowed {
	a.hosts = slices.Clone(a.hosts)
	for _, host := range hosts {
		a.hosts = append(a.hosts, canonical(host))
	}
	return a
}

// WithLoopback gives what allows this machine's own addresses too.
func (a Allowed) WithLoopback() Allowed {
	a.networks = append(slices.Clone(a.networks), prefixes("127.0.0.0/8", "::1/128")...)
	return a
}

// canonical is the form in which names are compared.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// host tells whether a name may lead anywhere.
func (a Allowed) host(name string) bool { return slices.Contains(a.hosts, canonical(name)) }

// address tells whether an address may be reached.
func (a Allowed) address(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	if slices.ContainsFunc(a.networks, func(p netip.Prefix) bool { return p.Contains(address) }) {
		return true
	}
	within := reserved4()
	if address.Is6() {
		if !netip.MustParsePrefix("2000::/3").Contains(address) {
			return false // loopback, link-local, unique local, multicast, translated IPv4, and what is not given out
		}
		within = reserved6()
	}
	return !slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Contains(address) })
}

// reserved4 are the addresses of IPv4 that are not everybody's (IANA's registry of special purposes), and one at which a
// cloud answers its own machines.
func reserved4() []netip.Prefix {
	return prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
		"240.0.0.0/4", "168.63.129.16/32")
}

// reserved6 are those among 2000::/3: protocols' own (Teredo among them, which holds an address of IPv4), examples, 6to4.
func reserved6() []netip.Prefix {
	return prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
}

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, text := range list {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}
