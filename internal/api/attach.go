package api

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const noAllocation = "IP address allocation must be enabled to use 'net:'"

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
	if len(form["addr"]) == 0 { // means net:default
		return req, BadRequest(noAllocation)
	}
	for _, text := range form["addr"] {
		prefix, err := parseAddr(text)
		if err != nil {
			return req, err
		}
		req.Addresses = append(req.Addresses, prefix)
	}
	return req, nil
}

// parseAddr reads one address argument: [ip:]ADDRESS/LENGTH, or net:… where addresses are allocated.
func parseAddr(text string) (netip.Prefix, error) {
	if strings.HasPrefix(text, "net:") {
		return netip.Prefix{}, BadRequest(noAllocation)
	}
	prefix, err := netip.ParsePrefix(strings.TrimPrefix(text, "ip:"))
	if err != nil {
		return netip.Prefix{}, BadRequest("invalid address " + strconv.Quote(text) + ", should be [ip:]ADDRESS/LENGTH")
	}
	if a := prefix.Addr(); a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Is4In6() {
		return netip.Prefix{}, BadRequest("invalid address " + strconv.Quote(text) + ", a container cannot own it")
	}
	return prefix, nil
}

// IsAddressArgument tells addresses from targets on the command line, where addresses come first.
func IsAddressArgument(arg string) bool {
	if strings.HasPrefix(arg, "net:") || strings.HasPrefix(arg, "ip:") {
		return true
	}
	_, err := netip.ParsePrefix(arg)
	return err == nil
}
