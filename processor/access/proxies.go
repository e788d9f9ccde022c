package access

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Proxies are the reverse proxies whose word about the client is taken.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks, as in "10.0.0.7" and "10.0.0.0/8".
func ParseProxies(list []string) (Proxies, error) {
	var proxies Proxies
	for _, text := range list {
		prefix, err := parseProxy(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %q is no address or network such as 10.0.0.7 or 10.0.0.0/8: %w", text, err)
		}
		proxies = append(proxies, prefix)
	}
	return proxies, nil
}

func parseProxy(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		return prefix.Masked(), err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return address.Unmap().Prefix(address.Unmap().BitLen())
}

// Trusts tells whether a connection's other end is one of the proxies.
func (p Proxies) Trusts(remote netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(remote) {
			return true
		}
	}
	return false
}

// Secure tells whether the client came by HTTPS, be it to a trusted proxy.
func (p Proxies) Secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	return strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") && p.Trusts(peer(r))
}

// forwarding headers are set by proxies: who sends them speaks for somebody else.
var forwarding = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via"}

func forwarded(h http.Header) bool {
	for _, name := range forwarding {
		if _, set := h[name]; set {
			return true
		}
	}
	return false
}

// local tells whether the request was made on this machine. Of what a trusted proxy forwards, every address that it names
// must be this machine's: one that cannot be read ("unknown", or an address with a port) may be anybody's. What others
// forward is never local. A request must also name this machine: a browser here sends the name of the site whose page
// made it, and a site can let its name lead here (DNS rebinding).
func (p Proxies) local(r *http.Request) bool {
	remote := peer(r)
	if !remote.IsLoopback() || !namesLoopback(r.Host) {
		return false
	}
	if !forwarded(r.Header) {
		return true
	}
	if _, set := r.Header["Forwarded"]; set || !p.Trusts(remote) {
		return false // RFC 7239's header is not read, so nothing is known about the client
	}
	clients := slices.Concat(r.Header["X-Forwarded-For"], r.Header["X-Real-Ip"])
	return len(clients) > 0 && allLoopback(strings.Split(strings.Join(clients, ","), ","))
}

// namesLoopback tells whether a Host header, with a port or without, is a name or an address that is always this machine's.
func namesLoopback(header string) bool {
	host := (&url.URL{Host: header}).Hostname()
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().IsLoopback()
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

func allLoopback(addresses []string) bool {
	for _, text := range addresses {
		address, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || !address.Unmap().IsLoopback() {
			return false
		}
	}
	return true
}

// peer is the address at the other end of the connection; the zero Addr when it has none.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
