//! Rewrites a parsed template so that it prints and looks up as Go does.

use gotmpl::parse::BranchNode;
use gotmpl::parse::CommandNode;
use gotmpl::parse::Expr;
use gotmpl::parse::ListNode;
use gotmpl::parse::Node;
use gotmpl::parse::PipeNode;
use gotmpl::parse::Pos;
use gotmpl::parse::SmolStr;

use crate::alert::template::function;

/// Rewrites the body of a template.
///
/// # Errors
/// When it calls a function that does not exist, or reads a variable that nothing before it declared.
pub(super) fn body(body: ListNode) -> Result<ListNode, String> {
    Rewrite { declared: vec!["$".into()] }.list(body)
}

struct Rewrite {
    /// Variables declared so far. That some went out of scope again only the execution notices.
    declared: Vec<SmolStr>,
}

impl Rewrite {
    fn list(&mut self, list: ListNode) -> Result<ListNode, String> {
        let nodes = list.nodes.into_iter().map(|node| self.node(node)).collect::<Result<_, _>>()?;
        Ok(ListNode { pos: list.pos, nodes })
    }

    fn node(&mut self, node: Node) -> Result<Node, String> {
        Ok(match node {
            Node::List(inner) => Node::List(self.list(inner)?),
            Node::Action(mut action) => {
                action.pipe = self.pipe(action.pipe)?;
                if action.pipe.decl.is_empty() {
                    let print = Expr::Identifier(action.pos, function::SHOW.into());
                    action.pipe.commands.push(CommandNode { pos: action.pos, args: vec![print] });
                }
                Node::Action(action)
            }
            Node::If(inner) => Node::If(self.branch(inner)?),
            Node::With(inner) => Node::With(self.branch(inner)?),
            Node::Range(inner) => Node::Range(self.branch(inner)?),
            Node::Template(mut template) => {
                template.pipe = template.pipe.map(|pipe| self.pipe(pipe)).transpose()?;
                Node::Template(template)
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => node,
        })
    }

    fn branch(&mut self, branch: BranchNode) -> Result<BranchNode, String> {
        Ok(BranchNode {
            pos: branch.pos,
            pipe: self.pipe(branch.pipe)?,
            body: self.list(branch.body)?,
            else_body: branch.else_body.map(|list| self.list(list)).transpose()?,
        })
    }

    fn pipe(&mut self, mut pipe: PipeNode) -> Result<PipeNode, String> {
        pipe.commands = pipe.commands.into_iter().map(|command| self.command(command)).collect::<Result<_, _>>()?;
        self.declared.extend(pipe.decl.iter().cloned());
        Ok(pipe)
    }

    fn command(&mut self, command: CommandNode) -> Result<CommandNode, String> {
        let CommandNode { pos, args } = command;
        let args = args.into_iter().map(|arg| self.expr(arg)).collect::<Result<_, _>>()?;
        Ok(CommandNode { pos, args })
    }

    fn expr(&mut self, expr: Expr) -> Result<Expr, String> {
        Ok(match expr {
            Expr::Identifier(pos, name) if !function::exists(&name) => {
                return Err(format!("template: line {}: function {name:?} not defined", pos.line));
            }
            Expr::Variable(pos, name, _) if !self.declared.contains(&name) => {
                return Err(format!("template: line {}: undefined variable {name:?}", pos.line));
            }
            Expr::Variable(pos, name, path) => fields(Expr::Variable(pos, name, Vec::new()), path),
            Expr::Field(pos, path) => fields(Expr::Dot(pos), path),
            Expr::Chain(_, inner, path) => fields(self.expr(*inner)?, path),
            Expr::Pipe(pos, inner) => Expr::Pipe(pos, self.pipe(inner)?),
            Expr::Identifier(..)
            | Expr::Dot(_)
            | Expr::String(..)
            | Expr::Number(..)
            | Expr::Bool(..)
            | Expr::Nil(_) => expr,
        })
    }
}

/// `base.a.b` as two calls of the function that looks fields up.
fn fields(base: Expr, path: Vec<SmolStr>) -> Expr {
    path.into_iter().fold(base, |base, name| {
        let pos: Pos = base.pos();
        let field = Expr::Identifier(pos, function::FIELD.into());
        let args = vec![field, base, Expr::String(pos, name.as_str().into())];
        let commands = vec![CommandNode { pos, args }];
        Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false })
    })
}
