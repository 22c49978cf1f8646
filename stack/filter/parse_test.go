package filter

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	d, err := Parse(`
# everything
group web   name web-*,www  peer host?   # two lines: either
group web   subnet 10.1.0.0/16
group db    label tier=data,env label zone=*
default deny
allow web,10.9.0.1 -> db tcp,udp 53,8000-8010
deny * -> web icmp
allow fd00::/64 -> * 47
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"allow web,10.9.0.1 -> db tcp,udp 53,8000-8010", "deny * -> web icmp", "allow fd00::/64 -> * 47"}
	if len(d.Rules) != len(want) || d.Default != Deny || len(d.Groups) != 2 || len(d.Groups[0].Terms) != 2 || len(d.Groups[1].Terms[0].Labels) != 3 {
		t.Fatalf("%+v", d)
	}
	for i, text := range want {
		if got := d.RuleText(i); got != text {
			t.Errorf("rule %d is %q, want %q", i, got, text)
		}
	}
	if d.Rules[0].Line != 7 || d.Operands[d.Rules[2].To].Text != "*" {
		t.Errorf("%+v", d)
	}
}

func TestParseFaults(t *testing.T) {
	_, err := Parse(`grup web name x
group web colour red
group 1web name x
group
group dup name a name b
group net subnet 10.0.0.1/8
group net subnet 300.0.0.0/8
allow web db
allow web -> nobody
allow web -> * tpc 80
allow web -> * icmp 80
allow web -> * tcp 80-70
allow web -> * tcp 0
allow *,web -> web
default maybe
default deny
default deny
group e name a,,b
`)
	want := strings.TrimSpace(`
line 1: unknown word "grup", should be group, allow, deny or default
line 2: unknown criterion "colour", should be name, label, subnet or peer
line 3: invalid name of a group "1web": letters, digits, '-', '_' and '.', with a letter first
line 4: should be 'group NAME', then pairs of name, label, subnet or peer and a value
line 5: name stands twice; values are separated by commas
line 6: subnet 10.0.0.1/8 has host bits, should be 10.0.0.0/8
line 7: invalid subnet "300.0.0.0/8", should be like 10.32.1.0/24 or fd00:1::/64
line 8: should be 'allow FROM -> TO [PROTOCOLS [PORTS]]'
line 9: there is no group "nobody"
line 10: unknown protocol "tpc", should be tcp, udp, sctp, icmp or a number up to 255
line 11: icmp has no ports
line 12: invalid port "80-70", should be like 80 or 8000-8100
line 13: invalid port "0", should be like 80 or 8000-8100
line 14: * stands for everybody, and alone
line 15: should be 'default allow' or 'default deny'
line 17: the default stands in line 16 already
line 18: name has an empty value`)
	if err == nil || err.Error() != want {
		t.Errorf("faults:\n%v\nwant\n%s", err, want)
	}
	for text, want := range map[string]string{
		"":                                   "there is no 'default allow' or 'default deny'",
		"default deny\xff":                   "a policy is a text in UTF-8, and this is none",
		strings.Repeat("#", MaxText+1):       "a policy has at most 196608 bytes, this one has 196609",
		strings.Repeat("what\n", 30):         "and 11 more",
		"default deny\nallow a/b -> *\n":     `line 2: invalid subnet "a/b", should be like 10.32.1.0/24 or fd00:1::/64`,
		"default deny\nallow * -> * tcp,tcp": "line 2: protocol tcp stands twice",
	} {
		if _, err := Parse(text); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("group a name x label k=v subnet 10.0.0.0/8 peer p\nallow a -> *,a tcp,udp 1-2,3\ndeny 10.0.0.1 -> fd00::/8 icmp\ndefault allow\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		// What rules look like can be read again, and means the same.
		var again strings.Builder
		for _, g := range d.Groups {
			again.WriteString("group " + g.Name + " name x\n")
		}
		for i := range d.Rules {
			again.WriteString(d.RuleText(i) + "\n")
		}
		e, err := Parse(again.String() + "default deny\n")
		if again.Len() > MaxText-20 {
			return
		}
		if err != nil || len(e.Rules) != len(d.Rules) {
			t.Fatalf("%q: %v", again.String(), err)
		}
		for i := range d.Rules {
			if e.RuleText(i) != d.RuleText(i) {
				t.Errorf("%q became %q", d.RuleText(i), e.RuleText(i))
			}
		}
	})
}

func TestGlob(t *testing.T) {
	for pattern, texts := range map[string][2]string{
		"*": {"|a|abc", ""}, "a*": {"a|ab|abc", "|ba"}, "*a": {"a|ba", "ab|"}, "a?c": {"abc|axc", "ac|abbc"}, "*b*": {"b|abc|bb", "ac|"}, "a*b*c": {"abc|aXbXc|abbc", "ab|acb"},
	} {
		for _, s := range strings.Split(texts[0], "|") {
			if !glob(pattern, s) {
				t.Errorf("%q should match %q", pattern, s)
			}
		}
		for _, s := range strings.Split(texts[1], "|") {
			if texts[1] != "" && glob(pattern, s) {
				t.Errorf("%q should not match %q", pattern, s)
			}
		}
	}
}
