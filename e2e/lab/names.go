package lab

import (
	"net"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// AnswerNames is a DNS server on a UDP address for as long as the process lives: every
// name there is leads to one IPv4 address.
func AnswerNames(listen string, leadTo netip.Addr) error {
	connection, err := net.ListenPacket("udp", listen)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 512) // the most that DNS has without extensions
		for {
			n, client, err := connection.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := answerName(buffer[:n], leadTo); err == nil { // who asks something else gets nothing
				_, _ = connection.WriteTo(answer, client) // and asks again if it is lost
			}
		}
	}()
	return nil
}

func answerName(query []byte, leadTo netip.Addr) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: leadTo.As4()},
			})
		}
	}
	return m.Pack()
}
