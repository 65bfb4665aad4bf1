//! What is kept besides samples: one noun a file. A noun writes itself into a transaction and offers the questions that
//! are asked of it as functions of a connection, for [`Store::read`](super::Store::read).

pub mod alerts;
pub mod forwards;
pub mod groups;
pub mod hosts;
pub mod links;
pub mod notifications;
pub mod origins;
pub mod outbox;
pub mod sessions;
pub mod tokens;
pub mod windows;

use common::batch::HostId;
use rusqlite::Transaction;

use crate::store::recent::Recent;
use crate::store::record::alerts::Alert;
use crate::store::record::alerts::Evaluated;
use crate::store::record::forwards::Forwarded;
use crate::store::record::forwards::Targets;
use crate::store::record::groups::Group;
use crate::store::record::hosts::Host;
use crate::store::record::links::LoginLink;
use crate::store::record::notifications::Notification;
use crate::store::record::origins::OriginToken;
use crate::store::record::outbox::Pending;
use crate::store::record::sessions::Session;
use crate::store::record::tokens::Token;
use crate::store::record::tokens::TokenUse;
use crate::store::record::windows::Windows;

/// A change to one noun, written in the same transaction as whatever caused it.
#[derive(Clone, Debug)]
pub enum Record {
    /// A host was enrolled, or something about it changed.
    Host(Box<Host>),
    /// A host is forgotten.
    HostForgotten(HostId),
    /// Windows of a host came.
    Windows(Windows),
    /// A join token was made or changed.
    Token(Token),
    /// A join token was used.
    TokenUse(TokenUse),
    /// A token to write with was made.
    OriginToken(OriginToken),
    /// A token to write with was taken back.
    OriginRevoked(HostId),
    /// An alert changed its state.
    Alert(Alert),
    /// Alerts were evaluated.
    Evaluated(Evaluated),
    /// A group of alerts changed.
    Group(Group),
    /// A notification waits for its delivery, or need not wait any more.
    Outbox(Pending),
    /// It was decided whether to notify, or a delivery ended.
    Notification(Notification),
    /// Who is written to was read from the configuration.
    ForwardTargets(Targets),
    /// Something was written to one of them.
    Forwarded(Forwarded),
    /// A login link was made.
    LoginLink(LoginLink),
    /// Somebody came in through a login link.
    Session(Session),
}

impl Record {
    /// Whether it comes with each window, and nobody hurries for it.
    pub(super) const fn keeps_coming(&self) -> bool {
        matches!(self, Self::Windows(_) | Self::Evaluated(_) | Self::Forwarded(_))
    }

    /// Writes it, but for what of it is recent.
    pub(super) fn write(&self, transaction: &Transaction<'_>, recent: &mut Recent) -> rusqlite::Result<()> {
        match self {
            Self::Host(host) => host.write(transaction),
            Self::HostForgotten(host) => {
                recent.forget(*host);
                windows::forget(transaction, *host)?;
                hosts::forget(transaction, *host)
            }
            Self::Windows(windows) => {
                recent.arrive(windows);
                windows::add_missing(transaction, windows.host, windows.missing)
            }
            Self::Token(token) => token.write(transaction),
            Self::TokenUse(used) => used.write(transaction),
            Self::OriginToken(token) => token.write(transaction),
            Self::OriginRevoked(origin) => origins::revoke(transaction, *origin),
            Self::Alert(alert) => alert.write(transaction),
            Self::Evaluated(evaluated) => {
                recent.evaluate(*evaluated);
                Ok(())
            }
            Self::Group(group) => group.write(transaction),
            Self::Outbox(pending) => pending.write(transaction),
            Self::Notification(notification) => notification.write(transaction),
            Self::ForwardTargets(targets) => targets.write(transaction),
            Self::Forwarded(forwarded) => forwarded.write(transaction),
            Self::LoginLink(link) => link.write(transaction),
            Self::Session(session) => session.write(transaction),
        }
    }
}
