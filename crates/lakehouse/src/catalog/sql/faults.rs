//! Faults that a test puts between the catalog and its database: what swaps and looks come to, in order. The statements
//! are the real ones; only their answers, or when they arrive, are another's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use iceberg::TableIdent;

use super::{Sql, Swap};
use crate::error::{LakehouseError, Result};

/// What becomes of one swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapFault {
    /// Nothing.
    None,
    /// It takes effect, and its answer gets lost.
    AnswerLost,
    /// It fails without effect.
    Undone,
    /// It fails, and takes effect after so many further statements, if it still can: a request that was queued.
    Queued(usize),
    /// It takes effect, its answer gets lost, and so many looks fail.
    Blind(usize),
    /// The database is locked.
    Locked,
}

#[derive(Debug, Default)]
struct Script {
    swaps: VecDeque<SwapFault>,
    queued: Vec<(usize, TableIdent, String, String)>,
    blind: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Script>>);

impl Faults {
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = SwapFault>) {
        self.script().swaps.extend(faults);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn next(&self) -> SwapFault {
        self.script().swaps.pop_front().unwrap_or(SwapFault::None)
    }
}

fn lost(sql: &Sql) -> LakehouseError {
    let source = Box::new(std::io::Error::other("the connection was reset"));
    LakehouseError::Catalog { path: sql.path.clone(), operation: "commit", source }
}

impl Sql {
    pub(super) async fn swap_with_faults(&self, ident: &TableIdent, from: &str, to: &str) -> Result<Swap> {
        self.arrive().await?;
        let fault = self.faults.next();
        match fault {
            SwapFault::None => self.swap_now(ident, from, to).await,
            SwapFault::AnswerLost | SwapFault::Blind(_) => {
                self.swap_now(ident, from, to).await?;
                self.faults.script().blind = if let SwapFault::Blind(looks) = fault { looks } else { 0 };
                Err(lost(self))
            }
            SwapFault::Undone => Err(lost(self)),
            SwapFault::Queued(after) => {
                self.faults.script().queued.push((after, ident.clone(), from.to_owned(), to.to_owned()));
                Err(lost(self))
            }
            SwapFault::Locked => {
                let source = Box::new(std::io::Error::other("locked"));
                Err(LakehouseError::CatalogLocked { path: self.path.clone(), source })
            }
        }
    }

    /// Before a look: what was queued may arrive, and the look may fail.
    pub(super) async fn look_with_faults(&self) -> Result<()> {
        self.arrive().await?;
        let mut script = self.faults.script();
        if script.blind > 0 {
            script.blind -= 1;
            drop(script);
            return Err(lost(self));
        }
        Ok(())
    }

    /// Queued swaps whose time has come.
    async fn arrive(&self) -> Result<()> {
        let mut due = Vec::new();
        self.faults.script().queued.retain_mut(|(after, ident, from, to)| {
            *after = after.saturating_sub(1);
            if *after == 0 {
                due.push((ident.clone(), from.clone(), to.clone()));
            }
            *after > 0
        });
        for (ident, from, to) in due {
            self.swap_now(&ident, &from, &to).await?;
        }
        Ok(())
    }
}
