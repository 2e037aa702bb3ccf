//! Reading XML element by element, with bounded memory and a place for every fault.

use std::io::{self, BufRead, Read};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::Form;
use super::node::Node;
use crate::error::{Fault, FileError};

/// The most bytes between two tags, or in one: our longest text has 140 characters, a stranger's comment may have more.
const MAX_TOKEN: u64 = 64 << 10;
/// The most elements of one item: a statement's entry may gather some thousand deductions.
const MAX_ELEMENTS: usize = 50_000;
/// The deepest nesting in one item; the standard's messages have about twelve.
const MAX_DEPTH: usize = 32;

/// Counts lines and columns, and ends a token that is too long.
struct Metered<R> {
    inner: R,
    left: u64,
    too_long: bool,
    line: u64,
    column: u64,
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let len = bytes.len().min(to.len());
        to[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<R: BufRead> BufRead for Metered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            self.too_long = true;
            return Err(io::Error::other("a token is too long"));
        }
        let bytes = self.inner.fill_buf()?;
        let len = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(&bytes[..len])
    }

    fn consume(&mut self, len: usize) {
        // What was handed out by `fill_buf` is still there: this reads nothing.
        if len > 0
            && let Ok(bytes) = self.inner.fill_buf()
        {
            let bytes = &bytes[..len.min(bytes.len())];
            match bytes.iter().rposition(|&byte| byte == b'\n') {
                Some(last) => {
                    self.line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                    self.column = (bytes.len() - last) as u64;
                }
                None => self.column += bytes.len() as u64,
            }
        }
        self.left -= len as u64;
        self.inner.consume(len);
    }
}

enum Token {
    Open(Node),
    Close,
    Text(String),
    End,
}

/// An XML file that is being read.
pub(super) struct Source<R: BufRead> {
    reader: Reader<Metered<R>>,
    buffer: Vec<u8>,
    /// The element that was opened last and is not read yet.
    opened: Option<Node>,
    /// Where the last token began.
    line: u64,
    column: u64,
}

impl<R: BufRead> Source<R> {
    /// Reads up to the message's own element, and checks that it is that message.
    pub(super) fn open(input: R, form: &Form) -> Result<Self, FileError> {
        let metered = Metered { inner: input, left: MAX_TOKEN, too_long: false, line: 1, column: 1 };
        let mut reader = Reader::from_reader(metered);
        reader.config_mut().expand_empty_elements = true;
        let mut source = Self { reader, buffer: Vec::new(), opened: None, line: 1, column: 1 };
        let format = || Fault::Format(form.name.to_owned());
        let Some(document) = source.child()? else { return Err(source.fault("Document", format())) };
        if document.name != "Document" || document.namespace.as_deref() != Some(&form.namespace()) {
            return Err(document.fault("", format()));
        }
        match source.child()? {
            Some(root) if root.name == form.root => Ok(source),
            _ => Err(source.fault(form.root, Fault::Missing)),
        }
    }

    pub(super) fn fault(&self, field: &str, fault: Fault) -> FileError {
        fault.at(self.line, self.column, field)
    }

    fn token(&mut self) -> Result<Token, FileError> {
        self.buffer.clear();
        let metered = self.reader.get_mut();
        metered.left = MAX_TOKEN;
        (self.line, self.column) = (metered.line, metered.column);
        let (line, column) = (self.line, self.column);
        let xml = |what| Fault::Xml(what).at(line, column, "");
        let event = match self.reader.read_event_into(&mut self.buffer) {
            Ok(event) => event,
            Err(quick_xml::Error::Io(_)) if self.reader.get_ref().too_long => {
                return Err(Fault::Limit("64 KiB for a text or a tag").at(line, column, ""));
            }
            Err(quick_xml::Error::Io(error)) => {
                return Err(io::Error::new(error.kind(), error.to_string()).into());
            }
            Err(_) => return Err(xml("is not well-formed XML")),
        };
        let text = match event {
            Event::Start(start) => return Ok(Token::Open(element(&start, line, column)?)),
            Event::End(_) => return Ok(Token::Close),
            Event::Eof => return Ok(Token::End),
            Event::Text(text) => text.xml10_content().map(|text| text.into_owned()).ok(),
            Event::CData(text) => text.xml10_content().map(|text| text.into_owned()).ok(),
            Event::GeneralRef(name) => match name.resolve_char_ref() {
                Ok(Some(c)) => Some(c.to_string()),
                Ok(None) => name
                    .decode()
                    .ok()
                    .and_then(|name| quick_xml::escape::resolve_predefined_entity(&name))
                    .map(str::to_owned),
                Err(_) => None,
            },
            Event::Decl(decl) => match decl.encoding() {
                Some(Ok(name)) if !name.eq_ignore_ascii_case(b"UTF-8") => {
                    return Err(xml("is in another encoding than UTF-8"));
                }
                _ => Some(String::new()),
            },
            Event::Comment(_) | Event::PI(_) => Some(String::new()),
            // A document type can define entities without end; no such message has one.
            Event::DocType(_) | Event::Empty(_) => {
                return Err(xml("has a document type, which these messages never have"));
            }
        };
        text.map(Token::Text).ok_or_else(|| xml("has characters or references that XML does not allow"))
    }

    /// Opens the next element inside the current one; at the current one's end `None`.
    fn child(&mut self) -> Result<Option<Node>, FileError> {
        loop {
            match self.token()? {
                Token::Open(node) => return Ok(Some(node)),
                Token::Close => return Ok(None),
                Token::Text(text) if text.trim().is_empty() => {}
                Token::Text(_) => return Err(self.fault("", Fault::Xml("has text between elements"))),
                Token::End => return Err(self.fault("", Fault::Unfinished)),
            }
        }
    }

    /// Reads the elements inside the current one until one of a name opens (true) or the current one ends.
    pub(super) fn head(&mut self, until: &str) -> Result<(Node, bool), FileError> {
        let mut head = Node::new(String::new(), self.line, self.column);
        while let Some(node) = self.child()? {
            let found = node.name == until;
            self.opened = Some(node);
            if found {
                return Ok((head, true));
            }
            let node = self.node()?;
            head.children.push(node);
            if head.children.len() > MAX_ELEMENTS {
                return Err(self.fault("", Fault::Limit("50000 elements")));
            }
        }
        Ok((head, false))
    }

    /// Reads the element that was opened, with everything in it.
    pub(super) fn node(&mut self) -> Result<Node, FileError> {
        let Some(first) = self.opened.take() else { return Err(self.fault("", Fault::Unfinished)) };
        let (mut open, mut count) = (vec![first], 0);
        loop {
            match self.token()? {
                Token::Open(node) => {
                    count += 1;
                    open.push(node);
                    if count > MAX_ELEMENTS || open.len() > MAX_DEPTH {
                        return Err(self.fault("", Fault::Limit("50000 elements, 32 deep")));
                    }
                }
                Token::Close => match (open.pop(), open.last_mut()) {
                    (Some(node), Some(parent)) => parent.children.push(node),
                    (Some(node), None) => return Ok(node),
                    (None, _) => return Err(self.fault("", Fault::Unfinished)),
                },
                Token::Text(text) => {
                    if let Some(node) = open.last_mut() {
                        node.content.push_str(&text);
                        if node.content.len() as u64 > MAX_TOKEN {
                            return Err(self.fault("", Fault::Limit("64 KiB for a text or a tag")));
                        }
                    }
                }
                Token::End => return Err(self.fault("", Fault::Unfinished)),
            }
        }
    }

    /// Expects the end: after the message's own element that of the document, then nothing.
    pub(super) fn end(&mut self) -> Result<(), FileError> {
        if self.child()?.is_some() {
            return Err(self.fault("", Fault::AfterEnd));
        }
        loop {
            match self.token()? {
                Token::End => return Ok(()),
                Token::Text(text) if text.trim().is_empty() => {}
                _ => return Err(self.fault("", Fault::AfterEnd)),
            }
        }
    }
}

/// An element's name without its prefix, its namespace where it names one itself, and its currency.
fn element(start: &BytesStart<'_>, line: u64, column: u64) -> Result<Node, FileError> {
    let xml = |what| Fault::Xml(what).at(line, column, "");
    let name =
        std::str::from_utf8(start.local_name().into_inner()).map_err(|_| xml("is not UTF-8"))?.to_owned();
    let mut node = Node::new(name, line, column);
    let prefix = start.name().prefix();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| xml("is not well-formed XML"))?;
        let key = attribute.key;
        let of_prefix = match prefix {
            Some(prefix) => key.as_ref().strip_prefix(b"xmlns:") == Some(prefix.as_ref()),
            None => key.as_ref() == b"xmlns",
        };
        if of_prefix || key.as_ref() == b"Ccy" {
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|_| xml("has characters or references that XML does not allow"))?
                .into_owned();
            *(if of_prefix { &mut node.namespace } else { &mut node.currency }) = Some(value);
        }
    }
    Ok(node)
}
