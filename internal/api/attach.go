package api

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// NoAllocation is what a request for an allocated address gets where there is no range to allocate from.
const NoAllocation = "IP address allocation must be enabled to use 'net:'"

// parseAttach reads the parameters of /attach: target once, addr for each address, no-multicast-route as a boolean.
func parseAttach(form url.Values) (AttachRequest, error) {
	req := AttachRequest{Target: form.Get("target")}
	if req.Target == "" || len(form["target"]) != 1 {
		return req, BadRequest("error: must supply one target parameter")
	}
	if text := form.Get("no-multicast-route"); text != "" {
		off, err := strconv.ParseBool(text)
		if err != nil {
			return req, BadRequest("error: no-multicast-route is true or false, not " + strconv.Quote(text))
		}
		req.NoMulticastRoute = off
	}
	req.Names = form["name"]
	req.WithoutDNS = form.Get("without-dns") == "true"
	req.RewriteHosts = form.Get("rewrite-hosts") == "true"
	req.AddHosts = form["add-host"]
	var err error
	req.Addresses, err = ParseAddresses(form["addr"])
	return req, err
}

// ParseAddresses reads address arguments; none of them mean one of the default subnet.
func ParseAddresses(texts []string) ([]AddressSpec, error) {
	var out []AddressSpec
	for _, text := range texts {
		spec, err := parseAddr(text)
		if err != nil {
			return nil, err
		}
		out = append(out, spec)
	}
	if len(out) == 0 {
		out = []AddressSpec{{Allocate: true}}
	}
	return out, nil
}

// parseAddr reads one address argument: [ip:]ADDRESS/LENGTH, net:SUBNET or net:default.
func parseAddr(text string) (AddressSpec, error) {
	if subnet, ok := strings.CutPrefix(text, "net:"); ok {
		if subnet == "default" {
			return AddressSpec{Allocate: true}, nil
		}
		prefix, err := netip.ParsePrefix(subnet)
		if err != nil {
			return AddressSpec{}, BadRequest("invalid subnet " + strconv.Quote(text) + ", should be net:default or net:ADDRESS/LENGTH")
		}
		return AddressSpec{Allocate: true, Prefix: prefix}, nil
	}
	prefix, err := netip.ParsePrefix(strings.TrimPrefix(text, "ip:"))
	if err != nil {
		return AddressSpec{}, BadRequest("invalid address " + strconv.Quote(text) + ", should be [ip:]ADDRESS/LENGTH")
	}
	if a := prefix.Addr(); a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Is4In6() {
		return AddressSpec{}, BadRequest("invalid address " + strconv.Quote(text) + ", a container cannot own it")
	}
	return AddressSpec{Prefix: prefix}, nil
}

// IsAddressArgument tells addresses from targets on the command line, where addresses come first.
func IsAddressArgument(arg string) bool {
	if strings.HasPrefix(arg, "net:") || strings.HasPrefix(arg, "ip:") {
		return true
	}
	_, err := netip.ParsePrefix(arg)
	return err == nil
}
