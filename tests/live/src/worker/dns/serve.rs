//! A DNS server, over UDP and TCP.

use super::{answer, converse, first_label, not_understood, read_message, write_message};
use anyhow::{Context as _, Result};
use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Understands `count`: questions that came and answers that were sent so far. The first label of a name says what is answered: `rcode-N`
/// that, `none` nothing, `twice` (over UDP) the same again, `other` an address of another name, `capitals` one that repeats the name in
/// capitals, `bare` one that repeats no question, `slow` an address after a while, `pieces` (over TCP) one in pieces, `at-A-B-C-D` that address.
#[derive(clap::Args)]
pub(crate) struct Serve {
    #[arg(long)]
    bind: SocketAddr,
}

#[derive(Clone, Default)]
struct Counts {
    questions: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

impl Serve {
    pub(crate) fn run(self) -> Result<()> {
        let datagrams = UdpSocket::bind(self.bind).with_context(|| format!("bind {}", self.bind))?;
        let listener = TcpListener::bind(self.bind).with_context(|| format!("listen on {}", self.bind))?;
        let counts = Counts::default();
        let of_udp = counts.clone();
        thread::spawn(move || -> Result<()> {
            let mut buffer = [0; 2048];
            loop {
                let (bytes, from) = datagrams.recv_from(&mut buffer)?;
                if let Some(answer) = of_udp.answer(&buffer[..bytes]) {
                    datagrams.send_to(&answer, from)?;
                    if first_label(&answer).as_deref() == Some("twice") {
                        datagrams.send_to(&answer, from)?;
                    }
                }
            }
        });
        let of_tcp = counts.clone();
        thread::spawn(move || -> Result<()> {
            for connection in listener.incoming() {
                let (connection, counts) = (connection?, of_tcp.clone());
                thread::spawn(move || counts.serve(connection));
            }
            Ok(())
        });
        converse(&format!("ready {}", self.bind), |words| match words {
            ["count"] => {
                let count = |of: &AtomicU64| of.load(Ordering::Acquire);
                Ok(format!("{} {}", count(&counts.questions), count(&counts.answers)))
            }
            other => not_understood(other),
        })
    }
}

impl Counts {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.questions.fetch_add(1, Ordering::AcqRel);
        let answer = answer(question)?;
        self.answers.fetch_add(1, Ordering::AcqRel);
        Some(answer)
    }

    fn serve(&self, mut connection: TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        while let Some(question) = read_message(&mut connection)? {
            let in_pieces = first_label(&question).as_deref() == Some("pieces");
            if let Some(answer) = self.answer(&question) {
                write_message(&mut connection, &answer, in_pieces)?;
            }
        }
        Ok(())
    }
}
