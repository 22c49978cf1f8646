package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a policy.
const (
	MaxText     = 192 << 10 // bytes: it travels in one letter
	maxRules    = 4096
	maxGroups   = 4096
	maxTerms    = 16384
	maxFaults   = 20 // that are told
	maxPerRule  = 64 // port ranges, or protocols
	maxPerTerm  = 64 // values of one criterion
	maxNameSize = 64
)

// Faults is everything that is wrong with a policy, a line each.
type Faults []Fault

// Fault is what is wrong with one line; line 0 is the whole.
type Fault struct {
	Line int
	Text string
}

func (f Faults) Error() string {
	var b strings.Builder
	for i, one := range f {
		if i == maxFaults {
			fmt.Fprintf(&b, "\nand %d more", len(f)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		if one.Line > 0 {
			fmt.Fprintf(&b, "line %d: ", one.Line)
		}
		b.WriteString(one.Text)
	}
	return b.String()
}

// parser reads line by line; groups may be used before they are told.
type parser struct {
	doc       Document
	groups    map[string]int
	operands  map[string]int
	pending   []pendingRule
	defaults  int // line of it
	noDefault bool
	terms     int
	line      int
	faults    Faults
}

// pendingRule is a rule whose operands are not looked up yet.
type pendingRule struct {
	rule     Rule
	from, to string
}

// Parse reads a policy:
//
//	# a comment
//	group NAME  name|label|subnet|peer VALUE,... ...
//	allow|deny FROM -> TO [PROTOCOL,... [PORT,...]]
//	default allow|deny
//
// The error is Faults.
func Parse(text string) (*Document, error) {
	p := &parser{noDefault: true, groups: map[string]int{}, operands: map[string]int{}}
	if len(text) > MaxText {
		return nil, Faults{{0, fmt.Sprintf("a policy has at most %d bytes, this one has %d", MaxText, len(text))}}
	}
	if !utf8.ValidString(text) {
		return nil, Faults{{0, "a policy is a text in UTF-8, and this is none"}}
	}
	for line := range strings.Lines(text) {
		p.line++
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			p.statement(words)
		}
	}
	p.line = 0
	for _, one := range p.pending {
		p.resolve(one)
	}
	p.line = 0
	if p.noDefault {
		p.fault("there is no 'default allow' or 'default deny'")
	}
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b Fault) int { return order(a.Line) - order(b.Line) })
		return nil, p.faults
	}
	return &p.doc, nil
}

// order puts faults of the whole behind those of lines.
func order(line int) int {
	if line == 0 {
		return MaxText
	}
	return line
}

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, Fault{p.line, fmt.Sprintf(format, args...)})
}

func (p *parser) statement(words []string) {
	switch words[0] {
	case "default":
		p.setDefault(words[1:])
	case "group":
		p.group(words[1:])
	case "allow":
		p.ruleLine(Allow, words[1:])
	case "deny":
		p.ruleLine(Deny, words[1:])
	default:
		p.fault("unknown word %q, should be group, allow, deny or default", words[0])
	}
}

func (p *parser) setDefault(words []string) {
	switch {
	case len(words) != 1 || words[0] != "allow" && words[0] != "deny":
		p.fault("should be 'default allow' or 'default deny'")
		p.noDefault = false
		return
	case p.defaults > 0:
		p.fault("the default stands in line %d already", p.defaults)
		return
	}
	p.doc.Default, p.defaults, p.noDefault = Deny, p.line, false
	if words[0] == "allow" {
		p.doc.Default = Allow
	}
}

func (p *parser) group(words []string) {
	if len(words) < 3 || len(words)%2 == 0 {
		p.fault("should be 'group NAME', then pairs of name, label, subnet or peer and a value")
		if len(words) > 0 && validName(words[0]) {
			p.enter(words[0]) // so that rules about it are not faulted too
		}
		return
	}
	name := words[0]
	if !validName(name) {
		p.fault("invalid name of a group %q: letters, digits, '-', '_' and '.', with a letter first", name)
		return
	}
	i := p.enter(name)
	if t, ok := p.term(words[1:]); ok {
		p.doc.Groups[i].Terms = append(p.doc.Groups[i].Terms, t)
	}
}

// enter finds a group, or makes it.
func (p *parser) enter(name string) int {
	i, known := p.groups[name]
	if !known {
		i = len(p.doc.Groups)
		p.groups[name] = i
		p.doc.Groups = append(p.doc.Groups, Group{Name: name})
		if i == maxGroups {
			p.fault("a policy has at most %d groups", maxGroups)
		}
	}
	return i
}

func validName(name string) bool {
	if name == "" || len(name) > maxNameSize || !letter(name[0]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !letter(c) && (c < '0' || c > '9') && !strings.ContainsRune("-_.", rune(c)) {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func (p *parser) term(words []string) (Term, bool) {
	var t Term
	good := true
	bad := func(format string, args ...any) { good = false; p.fault(format, args...) }
	seen := map[string]bool{}
	if p.terms++; p.terms == maxTerms+1 {
		bad("a policy has at most %d lines of groups", maxTerms)
	}
	for ; len(words) > 0; words = words[2:] {
		kind, values := words[0], strings.Split(words[1], ",")
		if len(values) > maxPerTerm {
			bad("%s has %d values, at most %d go in one line", kind, len(values), maxPerTerm)
			continue
		}
		if seen[kind] && kind != "label" {
			bad("%s stands twice; values are separated by commas", kind)
		}
		seen[kind] = true
		if slices.Contains(values, "") {
			bad("%s has an empty value", kind)
			continue
		}
		switch kind {
		case "name":
			t.Names = append(t.Names, values...)
		case "peer":
			t.Peers = append(t.Peers, values...)
		case "label":
			for _, v := range values {
				key, value, given := strings.Cut(v, "=")
				if !given {
					value = "*"
				}
				if key == "" {
					bad("invalid label %q, should be KEY or KEY=VALUE", v)
				}
				t.Labels = append(t.Labels, Label{key, value})
			}
		case "subnet":
			for _, v := range values {
				s, err := parseSubnet(v)
				if err != nil {
					bad("%v", err)
				}
				t.Subnets = append(t.Subnets, s)
			}
		default:
			bad("unknown criterion %q, should be name, label, subnet or peer", kind)
		}
	}
	return t, good
}

// parseSubnet reads a subnet, or an address.
func parseSubnet(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	s, err := netip.ParsePrefix(text)
	if err != nil || s.Addr().Is4In6() {
		return s, fmt.Errorf("invalid subnet %q, should be like 10.32.1.0/24 or fd00:1::/64", text)
	}
	if s.Masked() != s {
		return s, fmt.Errorf("subnet %s has host bits, should be %s", text, s.Masked())
	}
	return s, nil
}

func (p *parser) ruleLine(a Action, words []string) {
	if len(words) < 3 || words[1] != "->" || len(words) > 5 {
		p.fault("should be '%s FROM -> TO [PROTOCOLS [PORTS]]'", a)
		return
	}
	one := pendingRule{rule: Rule{Line: p.line, Action: a}, from: words[0], to: words[2]}
	if len(words) > 3 && !p.protocols(&one.rule, words[3]) {
		return
	}
	if len(words) > 4 && !p.ports(&one.rule, words[4]) {
		return
	}
	if len(p.pending) == maxRules {
		p.fault("a policy has at most %d rules", maxRules)
	}
	p.pending = append(p.pending, one)
}

func (p *parser) protocols(r *Rule, text string) bool {
	for _, name := range strings.Split(text, ",") {
		n, known := protoNames[name]
		if v, err := strconv.ParseUint(name, 10, 8); !known && err == nil {
			n, known = uint8(v), true
		}
		if n == protoICMPv6 {
			n = protoICMP
		}
		switch {
		case !known:
			p.fault("unknown protocol %q, should be tcp, udp, sctp, icmp or a number up to 255", name)
			return false
		case slices.Contains(r.Protos, n):
			p.fault("protocol %s stands twice", name)
			return false
		}
		r.Protos = append(r.Protos, n)
	}
	return true
}

func (p *parser) ports(r *Rule, text string) bool {
	for _, n := range r.Protos {
		if !hasPorts(n) {
			p.fault("%s has no ports", protoName(n))
			return false
		}
	}
	for _, part := range strings.Split(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, errFrom := strconv.ParseUint(first, 10, 16)
		to, errTo := strconv.ParseUint(last, 10, 16)
		if errFrom != nil || errTo != nil || from == 0 || from > to {
			p.fault("invalid port %q, should be like 80 or 8000-8100", part)
			return false
		}
		r.Ports = append(r.Ports, Ports{uint16(from), uint16(to)})
	}
	if len(r.Ports) > maxPerRule {
		p.fault("a rule has at most %d ports", maxPerRule)
	}
	return true
}

// resolve finds the operands of a rule, now that all groups are known.
func (p *parser) resolve(one pendingRule) {
	p.line = one.rule.Line
	var okFrom, okTo bool
	one.rule.From, okFrom = p.operand(one.from)
	one.rule.To, okTo = p.operand(one.to)
	if okFrom && okTo {
		p.doc.Rules = append(p.doc.Rules, one.rule)
	}
}

func (p *parser) operand(text string) (int, bool) {
	if i, known := p.operands[text]; known {
		return i, true
	}
	o := Operand{Text: text, Any: text == "*"}
	good := true
	for _, part := range strings.Split(text, ",") {
		g, known := p.groups[part]
		s, err := parseSubnet(part)
		switch {
		case o.Any:
		case known:
			o.Groups = append(o.Groups, g)
			o.Terms = append(o.Terms, p.doc.Groups[g].Terms...)
		case err == nil:
			o.Terms = append(o.Terms, Term{Subnets: []netip.Prefix{s}})
		case part == "*":
			good = false
			p.fault("* stands for everybody, and alone")
		case strings.ContainsAny(part, "/:"):
			good = false
			p.fault("%v", err)
		default:
			good = false
			p.fault("there is no group %q", part)
		}
	}
	if !good {
		return 0, false
	}
	i := len(p.doc.Operands)
	p.doc.Operands = append(p.doc.Operands, o)
	p.operands[text] = i
	return i, true
}
