package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// object is a JSON object of which we know only some keys. The other values stay the bytes they are, so that numbers
// keep their precision and unknown keys their meaning.
type object map[string]json.RawMessage

var errNoObject = errors.New("not a JSON object")

func parseObject(text []byte) (object, error) {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	if o == nil { // null
		return nil, errNoObject
	}
	return o, nil
}

// key is how the object spells a key: the engine, being Go, takes any case.
func (o object) key(name string) string {
	if _, ok := o[name]; ok {
		return name
	}
	for k := range o {
		if strings.EqualFold(k, name) {
			return k
		}
	}
	return name
}

func (o object) raw(name string) json.RawMessage { return o[o.key(name)] }

// present tells that the key is there with a value other than null.
func (o object) present(name string) bool {
	raw := bytes.TrimSpace(o.raw(name))
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}

// read unmarshals a value; what is absent or null leaves it as it is.
func (o object) read(name string, into any) error {
	if !o.present(name) {
		return nil
	}
	return json.Unmarshal(o.raw(name), into)
}

func (o object) set(name string, value any) {
	text, err := marshal(value)
	if err != nil {
		panic("proxy: a value of ours is no JSON: " + err.Error())
	}
	o[o.key(name)] = text
}

// object is the value of a key as an object, an empty one where there is none.
func (o object) object(name string) (object, error) {
	if !o.present(name) {
		return object{}, nil
	}
	return parseObject(o.raw(name))
}

func (o object) text() ([]byte, error) { return marshal(o) }

// marshal leaves <, > and & as they are.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// words is a list of strings, which clients may also write as one string (Docker's strslice).
type words []string

func (w *words) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*w = words{one}
		return nil
	}
	var all []string
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	*w = all
	return nil
}
