package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// language is one that the pages are in, as HTML names it.
type language string

const (
	english language = "en"
	chinese language = "zh-CN"
)

var languages = []language{english, chinese}

const languageCookie = "roadstead-language"

// other is the language that is offered beside this one.
func (l language) other() language {
	if l == english {
		return chinese
	}
	return english
}

// languageOf is the language that somebody has chosen or, before that, the one of ours that the
// browser would rather have (RFC 9110, section 12.5.4). Every kind of Chinese is better than none.
func languageOf(r *http.Request) language {
	if c, err := r.Cookie(languageCookie); err == nil {
		for _, l := range languages {
			if c.Value == string(l) {
				return l
			}
		}
	}
	best, most := english, 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			q, _ = strconv.ParseFloat(text, 64) // what cannot be read is not wanted
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if q <= most {
			continue
		}
		switch primary {
		case "zh":
			best, most = chinese, q
		case "en":
			best, most = english, q
		}
	}
	return best
}

// switchLanguage keeps which language somebody has chosen. It is no secret.
func switchLanguage(v *visit) error {
	chosen := language(v.r.PostFormValue("language"))
	if v.words[chosen].all == nil {
		return errForm
	}
	http.SetCookie(v.w, &http.Cookie{
		Name: languageCookie, Value: string(chosen), Path: home, MaxAge: int((365 * 24 * time.Hour).Seconds()),
		HttpOnly: true, Secure: v.r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	v.redirect(local(v.r.PostFormValue("next")))
	return nil
}

// words are the messages of a language, by key.
type words struct {
	lang language
	all  map[string]string
}

func readWords() (map[language]words, error) {
	all := map[language]words{}
	for _, l := range languages {
		text, err := files.ReadFile("messages/" + string(l) + ".json")
		if err != nil {
			return nil, err
		}
		w := words{lang: l}
		if err := json.Unmarshal(text, &w.all); err != nil {
			return nil, fmt.Errorf("messages in %s: %w", l, err)
		}
		all[l] = w
	}
	return all, nil
}

func (w words) has(key string) bool { return w.all[key] != "" }

// say is a message, with what it has gaps for. One that there is not is its key in
// brackets, which tests look for.
func (w words) say(key string, args ...any) string {
	text, ok := w.all[key]
	switch {
	case !ok:
		return "⟦" + key + "⟧"
	case len(args) == 0:
		return text
	}
	return fmt.Sprintf(text, args...)
}

// count is a message about so many: key.one or key.many, with the number in it.
func (w words) count(key string, n any) string {
	number := whole(n)
	if number == 1 {
		return w.say(key+".one", w.number(number))
	}
	return w.say(key+".many", w.number(number))
}
