// A ministry's system calls its own gateway: it reads, logs a call, sends it again, shows a refusal, and follows the events.
//
//	gateway log ADDRESS CASE COUNTERPART
//	gateway follow ADDRESS [EVENT]
//
// ADDRESS is such as https://127.0.0.1:7120. GATEWAY_AUTHORITY is the file of the certificate that the gateway shows, or of its authority.
// GATEWAY_TOKEN is the file of the caller's token. MINISTRIES_AS is the participant whose gateway it is. It needs nothing but Go: the
// gateway seals, signs, and checks receipts. The README of the repository has all that a gateway does.
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var participant = os.Getenv("MINISTRIES_AS")

// refused: the gateway refused, and nothing was recorded. It says why, and what to do (RFC 9457).
type refused struct {
	Reason, Article, Missing, Remedy, Detail string
}

func (r *refused) Error() string { return r.Reason + ": " + r.Detail }

type gateway struct {
	address, token string
	client         http.Client
}

func open(address string) (*gateway, error) {
	authority, err := os.ReadFile(os.Getenv("GATEWAY_AUTHORITY"))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(os.Getenv("GATEWAY_TOKEN"))
	if err != nil {
		return nil, err
	}
	// The gateway's own authority alone, and not those of the machine. No proxy stands between them.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("GATEWAY_AUTHORITY holds no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return &gateway{address, strings.TrimSpace(string(token)), http.Client{Transport: transport}}, nil
}

// send sends one request.
func (g *gateway) send(method, path string, body []byte, headers map[string]string) (*http.Response, error) {
	request, err := http.NewRequest(method, g.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+g.token)
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	return g.client.Do(request)
}

// ask sends one request, and reads the JSON that answers it.
func (g *gateway) ask(method, path string, body []byte, headers map[string]string, answer interface{}) (int, error) {
	response, err := g.send(method, path, body, headers)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		problem := &refused{}
		if err := json.NewDecoder(response.Body).Decode(problem); err != nil {
			return 0, err
		}
		return 0, problem
	}
	return response.StatusCode, json.NewDecoder(response.Body).Decode(answer)
}

// write makes a write. Keep the key with the request before you send it: with the same key and the same request it is the same write,
// however often it is sent, also after a lost connection or a restart.
func (g *gateway) write(rpc string, request interface{}, key string, answer interface{}) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var text json.RawMessage
	headers := map[string]string{"Content-Type": "application/json", "Idempotency-Key": key}
	status, err := g.ask("POST", "/v1/"+rpc, body, headers, &text)
	if err != nil {
		return err
	}
	for status == http.StatusAccepted { // It waits in the gateway's outbox until the service answers.
		var kept struct {
			State   string
			Answer  json.RawMessage
			Problem refused
		}
		if _, err := g.ask("GET", "/outbox/"+key, nil, nil, &kept); err != nil {
			return err
		}
		if kept.State == "ANSWERED" {
			return json.Unmarshal(kept.Answer, answer)
		}
		if kept.State != "WAITING" {
			return &kept.Problem
		}
		time.Sleep(time.Second)
	}
	return json.Unmarshal(text, answer)
}

// object is what JSON has braces for.
type object map[string]interface{}

// aCall is what our side says of a call that has just taken place.
func aCall(of, counterpart string) object {
	official := strings.ReplaceAll(participant, "/", "-") + "-official-1"
	return object{
		"actor":       object{"office": "consular-department", "official": official, "authority": "order-12"},
		"case":        of,
		"counterpart": counterpart,
		"account": object{
			"start_time": object{"time": time.Now().Add(-time.Hour).Format(time.RFC3339), "time_zone": "Asia/Seoul"},
			"channel":    "CHANNEL_TELEPHONE",
			"attendees":  []object{{"participant": participant, "office": "minister"}},
			"subjects":   []string{"SUBJECT_CITIZENSHIP"},
		},
	}
}

type logged struct {
	Call    string
	Receipt struct{ Position string }
}

func (g *gateway) log(of, counterpart string) error {
	var listed struct{ Calls []json.RawMessage }
	if _, err := g.ask("GET", "/v1/calllog/ListCalls?case="+of, nil, nil, &listed); err != nil {
		return err
	}
	fmt.Printf("calls of the case so far: %d\n", len(listed.Calls))

	key, request := newID(), aCall(of, counterpart)
	var first, again logged
	if err := g.write("calllog/LogCall", request, key, &first); err != nil {
		return err
	}
	fmt.Printf("request %s logged %s at position %s\n", key, first.Call, first.Receipt.Position)
	if err := g.write("calllog/LogCall", request, key, &again); err != nil {
		return err
	}
	fmt.Printf("sent again: %s at position %s\n", again.Call, again.Receipt.Position)

	// A call with oneself is none. The refusal says why, and what to do.
	err := g.write("calllog/LogCall", aCall(of, participant), newID(), &again)
	var problem *refused
	if !errors.As(err, &problem) {
		return err
	}
	fmt.Printf("refused: %s\n  article: %s\n  missing: %s\n  remedy: %s\n", problem.Reason, problem.Article, problem.Missing, problem.Remedy)
	return nil
}

// follow writes each event after the one with this id, once and in order. Keep the id when you have done what the event asks of you.
func (g *gateway) follow(last string) error {
	for failures := 0; ; time.Sleep(time.Duration(100<<min(failures, 6)) * time.Millisecond) {
		// The gateway was restarted, or the connection broke.
		if err := g.read(&last, &failures); err != nil {
			if failures++; failures == 10 {
				return err
			}
		}
	}
}

// read writes events until the stream ends.
func (g *gateway) read(last *string, failures *int) error {
	headers := map[string]string{}
	if *last != "" {
		headers["Last-Event-ID"] = *last
	}
	response, err := g.send("GET", "/events", nil, headers)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s", response.Status)
	}
	*failures = 0
	id := *last
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "id: ") {
			id = strings.TrimPrefix(line, "id: ")
		}
		if !strings.HasPrefix(line, "data: ") {
			continue
		}
		var event struct{ Type, Subject string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &event); err != nil {
			return err
		}
		if event.Subject == "" {
			event.Subject = "-" // It belongs to no case.
		}
		fmt.Println(id, event.Type, event.Subject)
		*last = id
	}
	return lines.Err()
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// newID makes a UUID (RFC 9562, version 4).
func newID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		log.Fatal(err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: gateway log ADDRESS CASE COUNTERPART | follow ADDRESS [EVENT]")
	}
	g, err := open(os.Args[2])
	if err == nil && os.Args[1] == "log" && len(os.Args) == 5 {
		err = g.log(os.Args[3], os.Args[4])
	} else if err == nil {
		err = g.follow(strings.Join(os.Args[3:], ""))
	}
	if err != nil {
		log.Fatal(err)
	}
}
